/* server/tls.h: the certificate and key with which clients are met. libmicrohttpd speaks TLS; it asks for them at each
 * handshake, so that a renewed certificate counts from the next client on, without a restart.
 *
 *   t5_tls_load() -> t5_tls_use() -> (each handshake: t5_tls_retrieve()) -> again, when the files are new ->
 * t5_tls_stop()
 *
 * One certificate serves the process: libmicrohttpd hands no context to the callback. */
#pragma once
#include "base/error.h"
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

/* TLS 1.2 and 1.3 alone, with what GnuTLS holds for good. */
#define T5_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

typedef struct t5_tls t5_tls;

/* Reads PEM files: a chain, the server's own certificate first, and its key. Warns in the log of what works and should
 * not be so: a certificate that is out of date, a key that everybody may read. An error names the setting, tls_cert or
 * tls_key, the file and what is wrong with it: T5_ERR_IO, T5_ERR_FORMAT; T5_ERR_ARG: they do not belong together.
 * One thread. */
t5_status t5_tls_load(const char *cert_path, const char *key_path, t5_tls **out, t5_error *err);
void t5_tls_destroy(t5_tls *tls); /* accepts NULL; for one that was never used */
/* From the next handshake on. Takes over `tls`; the ones before stay until t5_tls_stop(), since handshakes may be under
 * way with them: a few kB for each renewal. One thread. */
void t5_tls_use(t5_tls *tls);
/* gnutls_certificate_retrieve_function2, for libmicrohttpd. Any thread. */
int t5_tls_retrieve(gnutls_session_t session, const gnutls_datum_t *ca_names, int n_ca_names,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **out_chain,
                    unsigned *out_n_chain, gnutls_privkey_t *out_key);
/* Frees all that were used; no handshake may be under way. */
void t5_tls_stop(void);
