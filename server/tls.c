/* server/tls.c: see tls.h. */
#include "server/tls.h"
#include "base/file.h"
#include "base/log.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_BYTES_MAX (1 << 20)
#define CHAIN_MAX 16
#define KEY_ID_BYTES 64

struct t5_tls {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned n_chain;
    gnutls_privkey_t key;
    t5_tls *before; /* used until this one was */
};

static _Atomic(t5_tls *) current; /* see tls.h why there is no better place */

/* What GnuTLS refused, in a setting's file. */
static t5_status refuse(const char *setting, const char *path, const char *what, int rc, t5_error *err)
{
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: %s: %s: %s", setting, path, what, gnutls_strerror(rc));
}

static t5_status read_file(const char *setting, const char *path, gnutls_datum_t *out, t5_error *err)
{
    t5_error cause = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    const t5_status status = t5_file_read(path, FILE_BYTES_MAX, &text, &n_bytes, &cause);
    if (status != T5_OK) return T5_FAIL(err, status, "%s: %s", setting, cause.text);
    *out = (gnutls_datum_t){(unsigned char *)text, (unsigned)n_bytes};
    return T5_OK;
}

/* A key does not stay in memory that others get. */
static void forget(gnutls_datum_t *content)
{
    if (content->data != NULL) gnutls_memset(content->data, 0, content->size);
    free(content->data);
}

static t5_status read_chain(const char *path, t5_tls *tls, t5_error *err)
{
    gnutls_datum_t content = {NULL, 0};
    unsigned n_chain = CHAIN_MAX;
    t5_status status = read_file("tls_cert", path, &content, err);
    if (status != T5_OK) return status;
    const int rc =
        gnutls_pcert_list_import_x509_raw(tls->chain, &n_chain, &content, GNUTLS_X509_FMT_PEM,
                                          GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED | GNUTLS_X509_CRT_LIST_SORT);
    forget(&content);
    if (rc < 0) return refuse("tls_cert", path, "no chain of certificates in PEM form", rc, err);
    tls->n_chain = n_chain;
    return T5_OK;
}

static t5_status read_key(const char *path, t5_tls *tls, t5_error *err)
{
    gnutls_datum_t content = {NULL, 0};
    t5_status status = read_file("tls_key", path, &content, err);
    if (status != T5_OK) return status;
    int rc = gnutls_privkey_init(&tls->key);
    if (rc >= 0) rc = gnutls_privkey_import_x509_raw(tls->key, &content, GNUTLS_X509_FMT_PEM, NULL, 0);
    forget(&content);
    if (rc < 0) return refuse("tls_key", path, "no private key in PEM form without a password", rc, err);
    return T5_OK;
}

/* The key is the one that the server's certificate speaks of. */
static t5_status check_pair(const char *cert_path, const char *key_path, const t5_tls *tls, t5_error *err)
{
    unsigned char ids[2][KEY_ID_BYTES];
    size_t n_bytes[2] = {KEY_ID_BYTES, KEY_ID_BYTES};
    gnutls_pubkey_t public_key = NULL;
    int rc = gnutls_pubkey_init(&public_key);
    if (rc >= 0) rc = gnutls_pubkey_import_privkey(public_key, tls->key, 0, 0);
    if (rc >= 0) rc = gnutls_pubkey_get_key_id(public_key, GNUTLS_KEYID_USE_SHA256, ids[0], &n_bytes[0]);
    if (rc >= 0) rc = gnutls_pubkey_get_key_id(tls->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, ids[1], &n_bytes[1]);
    gnutls_pubkey_deinit(public_key);
    if (rc < 0) return refuse("tls_key", key_path, "this kind of key cannot be used", rc, err);
    if (n_bytes[0] != n_bytes[1] || memcmp(ids[0], ids[1], n_bytes[0]) != 0)
        return T5_FAIL(err, T5_ERR_ARG, "tls_key: %s is not the key of the certificate in %s (tls_cert)", key_path,
                       cert_path);
    return T5_OK;
}

static void warn_of_dates(const char *path, t5_tls *tls)
{
    gnutls_x509_crt_t cert = NULL;
    char quoted[PATH_MAX];
    if (gnutls_pcert_export_x509(&tls->chain[0], &cert) < 0) return;
    const time_t now = time(NULL), begin = gnutls_x509_crt_get_activation_time(cert);
    const time_t end = gnutls_x509_crt_get_expiration_time(cert);
    if (now < begin || now > end)
        t5_log(T5_LOG_WARN, "tls_cert path=%s text=\"the certificate is %s\"",
               t5_log_quote(quoted, sizeof quoted, path), now < begin ? "not valid yet" : "out of date");
    gnutls_x509_crt_deinit(cert);
}

static void warn_of_mode(const char *path)
{
    struct stat about;
    char quoted[PATH_MAX];
    if (stat(path, &about) == 0 && (about.st_mode & S_IROTH) != 0)
        t5_log(T5_LOG_WARN, "tls_key path=%s text=\"everybody on this machine may read the key\"",
               t5_log_quote(quoted, sizeof quoted, path));
}

t5_status t5_tls_load(const char *cert_path, const char *key_path, t5_tls **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "tls: %zu bytes", sizeof *tls);
    T5_TRY(read_chain(cert_path, tls, err));
    T5_TRY(read_key(key_path, tls, err));
    T5_TRY(check_pair(cert_path, key_path, tls, err));
    warn_of_dates(cert_path, tls);
    warn_of_mode(key_path);
    *out = tls;
    tls = NULL; /* handed to the caller */
out:
    t5_tls_destroy(tls);
    return status;
}

void t5_tls_destroy(t5_tls *tls)
{
    if (tls == NULL) return;
    for (unsigned i = 0; i < tls->n_chain; i++)
        gnutls_pcert_deinit(&tls->chain[i]);
    gnutls_privkey_deinit(tls->key);
    free(tls);
}

void t5_tls_use(t5_tls *tls)
{
    tls->before = atomic_load(&current);
    atomic_store(&current, tls);
}

int t5_tls_retrieve(gnutls_session_t session, const gnutls_datum_t *ca_names, int n_ca_names,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **out_chain,
                    unsigned *out_n_chain, gnutls_privkey_t *out_key)
{
    t5_tls *tls = atomic_load(&current);
    (void)session, (void)ca_names, (void)n_ca_names, (void)algorithms, (void)n_algorithms;
    if (tls == NULL) return -1;
    *out_chain = tls->chain;
    *out_n_chain = tls->n_chain;
    *out_key = tls->key;
    return 0;
}

void t5_tls_stop(void)
{
    for (t5_tls *tls = atomic_exchange(&current, NULL), *before; tls != NULL; tls = before) {
        before = tls->before;
        t5_tls_destroy(tls);
    }
}
