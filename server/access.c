/* server/access.c: see access.h. An address is the last one in X-Forwarded-For that no trusted proxy has, as RFC 7239
 * advises: what stands left of it is the client's own word. IPv6 clients count by their /64, of which each has a whole
 * one. */
#include "server/access.h"
#include "server/keys.h"
#include "server/rate.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ACCOUNTS_MAX 16384
#define PROXIES_MAX 32
#define ADDRESS_TEXT_MAX 64
#define FORWARDED_MAX 32 /* proxies in a row that are looked through */

/* As IPv6; IPv4 is mapped (::ffff:a.b.c.d), so that one comparison serves both. */
typedef struct {
    uint8_t bytes[16];
} address;

typedef struct {
    address base;
    int n_bits;
} network;

struct t5_access {
    char *keys_path; /* NULL: none */
    bool requires_key;
    _Atomic int64_t req_limits[T5_ACCESS_PERIODS];
    network proxies[PROXIES_MAX];
    int32_t n_proxies;
    t5_rate *rates[T5_ACCESS_PERIODS];
    pthread_rwlock_t lock; /* of `keys` */
    t5_keys keys;
};

static const struct {
    int64_t ms;
    const char *name;
} periods[T5_ACCESS_PERIODS] = {
    [T5_ACCESS_MINUTE] = {60000, "minute"}, [T5_ACCESS_HOUR] = {3600000, "hour"}, [T5_ACCESS_DAY] = {86400000, "day"}};

/* --- addresses --- */

static bool is_mapped_v4(const address *a)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(a->bytes, prefix, sizeof prefix) == 0;
}

/* An address as text; *out_bits is the length of its kind, 32 or 128. */
static bool parse_address(const char *text, address *out, int *out_bits)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        *out = (address){{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};
        memcpy(out->bytes + 12, &v4, 4);
        *out_bits = 32;
        return true;
    }
    *out_bits = 128;
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

static bool address_of_peer(const struct sockaddr *peer, address *out)
{
    *out = (address){{0}};
    if (peer == NULL) return false;
    if (peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        out->bytes[10] = out->bytes[11] = 0xff;
        memcpy(out->bytes + 12, &in->sin_addr, 4);
        return true;
    }
    if (peer->sa_family != AF_INET6) return false;
    const struct sockaddr_in6 *in6 = (const void *)peer;
    memcpy(out->bytes, &in6->sin6_addr, 16);
    return true;
}

static bool is_within(const address *a, const network *n)
{
    const int n_bytes = n->n_bits / 8, n_rest = n->n_bits % 8;
    if (memcmp(a->bytes, n->base.bytes, (size_t)n_bytes) != 0) return false;
    return n_rest == 0 || ((a->bytes[n_bytes] ^ n->base.bytes[n_bytes]) >> (8 - n_rest)) == 0;
}

static bool is_trusted(const t5_access *a, const address *client)
{
    for (int32_t i = 0; i < a->n_proxies; i++)
        if (is_within(client, &a->proxies[i])) return true;
    return false;
}

/* Copies text[begin, end) without the white space around it. False when it is too long. */
static bool trim(const char *begin, const char *end, char out[ADDRESS_TEXT_MAX])
{
    while (begin < end && (*begin == ' ' || *begin == '\t'))
        begin++;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (end - begin >= ADDRESS_TEXT_MAX) return false;
    memcpy(out, begin, (size_t)(end - begin));
    out[end - begin] = '\0';
    return true;
}

/* "10.0.0.0/8" or a single address. */
static bool parse_network(const char *text, network *out)
{
    char base[ADDRESS_TEXT_MAX];
    int n_kind = 0;
    const char *slash = strchr(text, '/');
    if (!trim(text, slash != NULL ? slash : text + strlen(text), base)) return false;
    if (!parse_address(base, &out->base, &n_kind)) return false;
    long n_bits = n_kind;
    if (slash != NULL) {
        char *end = NULL;
        n_bits = strtol(slash + 1, &end, 10);
        if (end == slash + 1 || *end != '\0' || n_bits < 0 || n_bits > n_kind) return false;
    }
    out->n_bits = (int)n_bits + 128 - n_kind;
    return true;
}

static t5_status parse_proxies(t5_access *a, const char *list, t5_error *err)
{
    for (const char *begin = list; *begin != '\0';) {
        char text[ADDRESS_TEXT_MAX];
        const char *end = begin + strcspn(begin, ",");
        if (a->n_proxies == PROXIES_MAX) return T5_FAIL(err, T5_ERR_ARG, "trusted_proxies: more than %d", PROXIES_MAX);
        if (!trim(begin, end, text) || !parse_network(text, &a->proxies[a->n_proxies++]))
            return T5_FAIL(err, T5_ERR_ARG,
                           "trusted_proxies: '%.*s' is neither an address nor a network like 10.0.0.0/8",
                           (int)(end - begin), begin);
        begin = end + (*end == ',');
    }
    return T5_OK;
}

/* Who asks: the peer, or whom trusted proxies name. */
static bool find_client(const t5_access *a, const struct sockaddr *peer, const char *forwarded, address *out)
{
    if (!address_of_peer(peer, out)) return false;
    const char *end = forwarded != NULL ? forwarded + strlen(forwarded) : NULL;
    for (int i = 0; i < FORWARDED_MAX && end != NULL && is_trusted(a, out); i++) {
        char text[ADDRESS_TEXT_MAX];
        address next;
        int n_bits = 0;
        const char *begin = end;
        while (begin > forwarded && begin[-1] != ',')
            begin--;
        if (!trim(begin, end, text) || !parse_address(text, &next, &n_bits)) return true;
        *out = next;
        end = begin > forwarded ? begin - 1 : NULL;
    }
    return true;
}

static t5_rate_account account_of_address(const address *client)
{
    t5_rate_account account = {{'a'}};
    memcpy(account.bytes + 1, client->bytes, is_mapped_v4(client) ? 16 : 8);
    return account;
}

static t5_rate_account account_of_key(const char *id)
{
    t5_rate_account account = {{'k'}};
    memcpy(account.bytes + 1, id, strlen(id));
    return account;
}

/* --- life --- */

/* A mistake in the file is told with the setting that names it. */
static t5_status load_keys(const char *path, t5_keys *out, t5_error *err)
{
    t5_error cause = {0};
    const t5_status status = t5_keys_load(path, out, &cause);
    if (status == T5_OK) return T5_OK;
    return t5_error_set(err, status, cause.file, cause.line, "api_keys: %s", cause.text);
}

t5_status t5_access_create(const t5_access_options *options, t5_access **out, t5_error *err)
{
    t5_status status = T5_OK;
    uint64_t seed = 0;
    t5_access *a = calloc(1, sizeof *a);
    if (a == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "access: %zu bytes", sizeof *a);
    pthread_rwlock_init(&a->lock, NULL);
    a->requires_key = options->requires_key;
    t5_access_set_limits(a, options->req_limits);
    T5_TRY(parse_proxies(a, options->trusted_proxies, err));
    if (gnutls_rnd(GNUTLS_RND_NONCE, &seed, sizeof seed) != 0) T5_TRY(T5_FAIL(err, T5_ERR_IO, "no random numbers"));
    for (int i = 0; i < T5_ACCESS_PERIODS; i++)
        T5_TRY(t5_rate_create(ACCOUNTS_MAX, periods[i].ms, seed, &a->rates[i], err));
    if (options->keys_path[0] != '\0') {
        a->keys_path = strdup(options->keys_path);
        if (a->keys_path == NULL) T5_TRY(T5_FAIL(err, T5_ERR_NOMEM, "access: a path"));
        T5_TRY(load_keys(a->keys_path, &a->keys, err));
    } else if (options->requires_key) {
        T5_TRY(T5_FAIL(err, T5_ERR_ARG, "require_api_key: there are no keys, name their file with api_keys"));
    }
    *out = a;
    a = NULL; /* handed to the caller */
out:
    t5_access_destroy(a);
    return status;
}

void t5_access_destroy(t5_access *a)
{
    if (a == NULL) return;
    for (int i = 0; i < T5_ACCESS_PERIODS; i++)
        t5_rate_destroy(a->rates[i]);
    t5_keys_deinit(&a->keys);
    pthread_rwlock_destroy(&a->lock);
    free(a->keys_path);
    free(a);
}

void t5_access_set_limits(t5_access *a, const int64_t req_limits[T5_ACCESS_PERIODS])
{
    for (int i = 0; i < T5_ACCESS_PERIODS; i++)
        a->req_limits[i] = req_limits[i];
}

t5_status t5_access_reload(t5_access *a, t5_error *err)
{
    t5_keys keys = {0};
    if (a->keys_path == NULL) return T5_OK;
    const t5_status status = load_keys(a->keys_path, &keys, err);
    if (status != T5_OK) return status;
    pthread_rwlock_wrlock(&a->lock);
    t5_keys before = a->keys;
    a->keys = keys;
    pthread_rwlock_unlock(&a->lock);
    t5_keys_deinit(&before);
    return T5_OK;
}

/* --- check --- */

/* Copies the entry of a key. False when there is none. */
static bool look_up(t5_access *a, const char *key, t5_key *out)
{
    pthread_rwlock_rdlock(&a->lock);
    const t5_key *found = t5_keys_find(&a->keys, key);
    if (found != NULL) *out = *found;
    pthread_rwlock_unlock(&a->lock);
    return found != NULL;
}

/* The shortest period first: what it refuses costs nothing of the longer ones. */
static void take(t5_access *a, const t5_rate_account *account, int64_t per_minute, int64_t cost, int64_t now_ms,
                 t5_access_verdict *out)
{
    for (int i = 0; i < T5_ACCESS_PERIODS && out->result == T5_ACCESS_GRANTED; i++) {
        out->req_limit = i == T5_ACCESS_MINUTE ? per_minute : a->req_limits[i];
        out->period = periods[i].name;
        if (out->req_limit < 0) continue;
        out->wait_s = t5_rate_take(a->rates[i], account, out->req_limit, cost, now_ms);
        if (out->wait_s > 0) out->result = T5_ACCESS_TOO_OFTEN;
    }
}

void t5_access_check(t5_access *a, const char *key, const struct sockaddr *peer, const char *forwarded, int64_t n_texts,
                     int64_t now_ms, t5_access_verdict *out)
{
    t5_key entry = {.req_limit = -1, .char_limit = -1};
    address client;
    t5_rate_account account = {{0}};
    const bool has_key = a->keys_path != NULL && key != NULL && key[0] != '\0';
    *out = (t5_access_verdict){.result = T5_ACCESS_GRANTED, .char_limit = -1};
    if (has_key && !look_up(a, key, &entry)) out->result = T5_ACCESS_WRONG_KEY;
    const int64_t minute = a->req_limits[T5_ACCESS_MINUTE];
    const bool is_for_keys = a->keys_path != NULL && minute == 0; /* as LibreTranslate has it */
    const bool needs_key = a->requires_key || is_for_keys;
    if (!has_key && needs_key) out->result = T5_ACCESS_NO_KEY;
    if (out->result != T5_ACCESS_GRANTED) return;

    out->char_limit = entry.char_limit;
    const int64_t per_minute = entry.req_limit >= 0 ? entry.req_limit : is_for_keys ? -1 : minute;
    if (has_key)
        account = account_of_key(entry.id);
    else if (find_client(a, peer, forwarded, &client))
        account = account_of_address(&client);
    take(a, &account, per_minute, n_texts > 0 ? n_texts : 1, now_ms, out);
}
