/* server/access.h: who may ask, and how often: API keys, and limits for each key or address. Any thread. */
#pragma once
#include "base/error.h"
#include <stdint.h>

struct sockaddr;
typedef struct t5_access t5_access;

/* A key may have a limit of its own for a minute, which takes the place of the server's. */
enum { T5_ACCESS_MINUTE, T5_ACCESS_HOUR, T5_ACCESS_DAY, T5_ACCESS_PERIODS };

typedef struct {
    const char *keys_path;                 /* of keys.h; "": any key is taken, and none is needed */
    bool requires_key;                     /* refuse who has none */
    int64_t req_limits[T5_ACCESS_PERIODS]; /* texts of one address or key in a period, see below; -1: no limit */
    const char *trusted_proxies;           /* "10.0.0.0/8, ::1": whose X-Forwarded-For is believed; "": nobody's */
} t5_access_options;

typedef enum { T5_ACCESS_GRANTED, T5_ACCESS_NO_KEY, T5_ACCESS_WRONG_KEY, T5_ACCESS_TOO_OFTEN } t5_access_result;

typedef struct {
    t5_access_result result;
    int64_t char_limit; /* granted: characters of one text that the key allows; -1: it says nothing */
    int64_t req_limit;  /* too often: the limit */
    const char *period; /* too often: of the limit, "minute" */
    int32_t wait_s;     /* too often: seconds until it is worth asking again */
} t5_access_verdict;

/* Copies what it needs of the options. T5_ERR_ARG: trusted_proxies; T5_ERR_IO, T5_ERR_FORMAT: the file of keys. */
t5_status t5_access_create(const t5_access_options *options, t5_access **out, t5_error *err);
void t5_access_destroy(t5_access *a); /* accepts NULL */
/* Other req_limits from now on. */
void t5_access_set_limits(t5_access *a, const int64_t req_limits[T5_ACCESS_PERIODS]);
/* Reads the file of keys again; when that fails the keys stay as they were. */
t5_status t5_access_reload(t5_access *a, t5_error *err);
/* `key`: what the client sent, or NULL or "". `peer`: whom the connection is from, or NULL. `forwarded`: the value of
 * X-Forwarded-For, or NULL. `n_texts` is what the request costs. */
void t5_access_check(t5_access *a, const char *key, const struct sockaddr *peer, const char *forwarded, int64_t n_texts,
                     int64_t now_ms, t5_access_verdict *out);
