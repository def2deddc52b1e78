/* server/routes.h: what t5serve answers. One table says who handles which method and path; a further API is further
 * rows and a file beside translate.c. */
#pragma once
#include "server/access.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/params.h"
#include "translate/journey.h"

#include <stdatomic.h>

#define T5_LANGUAGES_MAX 1024

/* What the routes share. Immutable while requests are served, but for what counts. */
typedef struct {
    t5_catalog *catalog;
    t5_access *access;
    bool has_keys, requires_key;   /* for clients that want to know */
    t5_params_rules rules;         /* the caller sets the limits */
    atomic_bool has_metrics;       /* GET /metrics is answered */
    atomic_bool has_access_log;    /* a line for each request */
    atomic_bool has_access_client; /* with the client's address */
    bool has_web_ui;               /* GET / is answered */
    const char *version;
    const char *path_prefix;               /* as t5_http_options.path_prefix */
    const char *key_link;                  /* where people get a key; "": nowhere */
    const char *metrics_token;             /* what GET /metrics needs; "": nothing */
    const char *wanted_languages;          /* "en,de": what the model is to offer; "": all it has */
    const char *page_source, *page_target; /* the languages that a page begins with; "": no wish */
    int32_t page_timeout_ms;
    char *languages; /* the answer of GET /languages */
    size_t languages_bytes;
    t5_metrics *metrics;
    atomic_llong n_characters; /* of DeepL's requests, since the start */
} t5_server;

extern const t5_http_route t5_server_routes[];
extern const int32_t t5_server_routes_count;

/* Fills what follows from the catalog: rules, `languages`, `metrics`; the rest is the caller's. Undo with
 * t5_server_deinit(). */
t5_status t5_server_init(t5_server *s, t5_error *err);
void t5_server_deinit(t5_server *s);
/* The device failed: nothing will be translated any more. */
bool t5_server_is_lost(const t5_server *s);
/* t5_http_options.observe and .check_room */
void t5_server_observe(void *server, const t5_http_summary *summary);
t5_status t5_server_check_room(void *server, int64_t deadline_ms, t5_error *err);

/* translate.c: POST /translate. */
void t5_translate_handle(t5_exchange *x, void *server);
void t5_translate_finish(t5_exchange *x, void *server);
void t5_translate_cancel(t5_exchange *x);
void t5_translate_release(void *state);
