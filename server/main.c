/* server/main.c: t5serve. Settings, model, HTTP; then waits for a signal, finishes what was accepted, and leaves.
 *
 * Signals are blocked in every thread and taken by this one, so that nothing runs inside a handler: SIGHUP reads the
 * settings again, the first SIGTERM or SIGINT drains, a second one gives up what still runs; while models are opened
 * early_stop.h looks after them. Exit codes: 0 after a drain, 1 for a failure, 2 for a setting that makes no sense. */
#include "base/clock.h"
#include "base/log.h"
#include "base/stdio.h"
#include "config/config.h"
#include "server/early_stop.h"
#include "server/head.h"
#include "server/json_memory.h"
#include "server/keys.h"
#include "server/listen.h"
#include "server/probe.h"
#include "server/reload.h"
#include "server/routes.h"
#include "server/systemd.h"
#include "server/tls.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Exit codes beside EXIT_SUCCESS and EXIT_FAILURE. A supervisor restarts after EXIT_DEVICE: a failed GPU needs a new
 * process. */
#define EXIT_USAGE 2
#define EXIT_DEVICE 3

#define TICK_MS 20     /* while draining */
#define QUIET_TICKS 13 /* without a request before the last connections are closed: 260 ms */
#define DEVICE_CHECK_MS 500
#define GIVE_UP_MS 10000 /* work that was given up ends at the next step; longer means that the device hangs */
#define SEND_MS 2000     /* for the last replies to leave */
#define MODELS_TEXT_BYTES 192
#define CONNECTIONS_BYTES ((size_t)64 << 20)
#define CONNECTION_BYTES_LARGE ((size_t)65536)
#define CONNECTION_BYTES_SMALL ((size_t)8192)

extern char **environ;

typedef struct {
    t5_config config;
    t5_config_list model_dirs;
    char path_prefix[T5_PATH_PREFIX_MAX + 1];
    t5_catalog *catalog;
    t5_server server;
    t5_http *http;
    int listen_fd;         /* until HTTP has it; -1: none */
    bool is_socket_handed; /* by the service manager */
    bool is_opening;       /* a model still was when the server had stopped */
    sigset_t signals;
    int argc;
    char **argv;
    int64_t watchdog_ms;             /* of the service manager; 0: none */
    int64_t n_passes[T5_MODELS_MAX]; /* of each model, when the manager was told last */
} program;

static t5_translator_options translator_options(const t5_config *c)
{
    t5_translator_options options;
    t5_translator_options_init(&options);
    options.languages = c->languages;
    options.device.device = c->device;
    options.device.compute_type = c->compute_type;
    options.device.n_threads = (int32_t)c->threads;
    options.engine = (t5_engine_options){
        .n_rows_max = (int32_t)c->max_running_rows,
        .src_len_max = (int32_t)c->max_source_tokens,
        .tgt_len_max = c->max_new_tokens > 0 ? (int32_t)c->max_new_tokens + 1 : 0, /* the start token */
        .enc_tokens_max = (int32_t)c->encode_tokens,
        .queue_depth_max = (int32_t)c->queue_depth,
    };
    options.kv_bytes = c->kv_memory;
    options.uses_shortlists = c->shortlist;
    return options;
}

static t5_status open_catalog(program *p, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_config *c = &p->config;
    const char *dirs[T5_MODELS_MAX];
    t5_catalog_options options = {.dirs = dirs,
                                  .each = translator_options(c),
                                  .has_pivot = c->pivot,
                                  .is_lazy = c->lazy_models,
                                  .idle_unload_ms = 1000 * c->idle_unload_s,
                                  .n_open_max = (int32_t)c->models_open_max,
                                  .n_threads = (int32_t)c->text_threads};
    T5_TRY(t5_config_models(c, &p->model_dirs, err));
    for (const char *dir = NULL; (dir = t5_config_list_next(&p->model_dirs, dir)) != NULL;)
        dirs[options.n_dirs++] = dir;
    T5_TRY(t5_catalog_open(&options, &p->catalog, err));
out:
    return status;
}

/* The last event of a server that stops, which began `ms` ago. `is_opening`: a model still is. */
static void log_stopped(int64_t ms, bool is_opening)
{
    t5_log(T5_LOG_INFO, "stopped ms=%" PRId64 " opening=%s", ms, is_opening ? "true" : "false");
}

/* Ends the process while a thread is at work that cannot be broken off, and whose memory cannot be freed. */
__attribute__((noreturn)) static void leave(int exit_code)
{
    t5_log_stop();
    _exit(exit_code);
}

static void leave_early(void)
{
    t5_systemd_notify("STOPPING=1");
    log_stopped(0, true);
    leave(EXIT_SUCCESS);
}

/* The socket of the service manager, or one of our own. */
static t5_status take_address(program *p, t5_error *err)
{
    t5_status status = T5_OK;
    int handed = -1;
    T5_TRY(t5_systemd_take_socket(&handed, err));
    if (handed < 0) return t5_listen_bind(p->config.host, (int32_t)p->config.port, &p->listen_fd, err);
    T5_TRY(t5_listen_take(handed, err));
    p->listen_fd = handed;
    p->is_socket_handed = true;
out:
    return status;
}

/* What may take long: a name's address, and models, after all mistakes that show at once. Who wants to stop does not
 * wait. */
static t5_status open_unless_stopped(program *p, t5_error *err)
{
    t5_early_stop *early = NULL;
    sigset_t stops = p->signals;
    sigdelset(&stops, SIGHUP);
    t5_status status = t5_early_stop_create(&stops, leave_early, &early, err);
    if (status == T5_OK) status = take_address(p, err);
    if (status == T5_OK) status = open_catalog(p, err);
    t5_early_stop_destroy(early);
    return status;
}

/* The certificate of HTTPS; none without settings for it. */
static t5_status load_tls(const t5_config *c, t5_error *err)
{
    t5_tls *tls = NULL;
    const bool has_cert = c->tls_cert[0] != '\0', has_key = c->tls_key[0] != '\0';
    if (!has_cert && !has_key) return T5_OK;
    if (!has_cert || !has_key)
        return T5_FAIL(err, T5_ERR_ARG, "%s: goes with %s, which is not set", has_cert ? "tls_cert" : "tls_key",
                       has_cert ? "tls_key" : "tls_cert");
    const t5_status status = t5_tls_load(c->tls_cert, c->tls_key, &tls, err);
    if (status == T5_OK) t5_tls_use(tls);
    return status;
}

/* Memory of a connection when nobody says: enough for a long text in the query, unless so many connections may be open
 * that they would hold more than CONNECTIONS_BYTES together. */
static size_t connection_bytes_of(const t5_config *c)
{
    const size_t share = CONNECTIONS_BYTES / (size_t)c->connections_max;
    if (c->connection_bytes > 0) return (size_t)c->connection_bytes;
    if (share > CONNECTION_BYTES_LARGE) return CONNECTION_BYTES_LARGE;
    return share < CONNECTION_BYTES_SMALL ? CONNECTION_BYTES_SMALL : share;
}

/* Who may ask, and where. */
static t5_status load_access(program *p, t5_error *err)
{
    const t5_config *c = &p->config;
    const t5_access_options access = {.keys_path = c->api_keys,
                                      .requires_key = c->require_api_key,
                                      .req_limits = {c->req_limit, c->hourly_req_limit, c->daily_req_limit},
                                      .trusted_proxies = c->trusted_proxies};
    t5_status status = t5_head_prefix(c->url_prefix, p->path_prefix, err);
    if (status == T5_OK) status = t5_head_origin(c->cors_origin, err);
    if (status == T5_OK) status = t5_access_create(&access, &p->server.access, err);
    return status;
}

static t5_status start_http(program *p, t5_error *err)
{
    t5_status status = T5_OK;
    const t5_config *c = &p->config;
    p->server.catalog = p->catalog;
    p->server.has_web_ui = !c->disable_web_ui;
    p->server.has_keys = c->api_keys[0] != '\0';
    p->server.requires_key = c->require_api_key;
    p->server.version = T5_VERSION;
    p->server.path_prefix = p->path_prefix;
    p->server.key_link = c->get_api_key_link;
    p->server.metrics_token = c->metrics_auth_token;
    p->server.page_source = c->frontend_language_source;
    p->server.page_target = c->frontend_language_target;
    p->server.page_timeout_ms = (int32_t)c->frontend_timeout;
    p->server.wanted_languages = c->languages;
    t5_reload_apply(c, &p->server);
    T5_TRY(t5_server_init(&p->server, err));
    const t5_http_options options = {
        .listen_fd = p->listen_fd,
        .is_shared = p->is_socket_handed,
        .is_tls = c->tls_cert[0] != '\0',
        .n_threads = (int32_t)c->http_threads,
        .n_workers = (int32_t)c->text_threads,
        .connections_max = (int32_t)c->connections_max,
        .request_timeout_ms = c->request_timeout_ms,
        .receive_timeout_ms = (int32_t)c->receive_timeout_ms,
        .connection_bytes = connection_bytes_of(c),
        .body_bytes_max = (size_t)c->max_request_bytes,
        .cors_origin = c->cors_origin,
        .path_prefix = p->path_prefix,
        .routes = t5_server_routes,
        .n_routes = t5_server_routes_count,
        .server = &p->server,
        .check_room = t5_server_check_room,
        .observe = t5_server_observe,
    };
    T5_TRY(t5_http_start(&options, &p->http, err));
    p->listen_fd = -1;
out:
    return status;
}

/* The next signal, or 0 after `ms`. */
static int wait_signal(const program *p, int64_t ms)
{
    const struct timespec timeout = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    int signal_number = sigtimedwait(&p->signals, NULL, &timeout);
    return signal_number > 0 ? signal_number : 0;
}

/* The model has nothing to do, or did something since the last time. */
static bool moves_on(program *p, int32_t i_model)
{
    t5_model_stats stats;
    t5_catalog_stats(p->catalog, i_model, &stats);
    const bool is_idle = stats.engine.queue_depth == 0 && stats.engine.n_running == 0;
    const int64_t n_passes = stats.engine.encode_ns.count + stats.engine.step_ns.count;
    const bool has_moved = n_passes != p->n_passes[i_model];
    p->n_passes[i_model] = n_passes;
    return is_idle || has_moved;
}

/* Tells the service manager that we live: while every model moves on. */
static void feed_watchdog(program *p)
{
    bool is_alive = true;
    if (p->watchdog_ms == 0) return;
    for (int32_t i = 0; i < t5_catalog_n_models(p->catalog); i++)
        is_alive = moves_on(p, i) && is_alive;
    if (is_alive) t5_systemd_notify("WATCHDOG=1");
}

/* "a", or "a and 2 more". */
static const char *describe_models(const program *p, char out[MODELS_TEXT_BYTES])
{
    const int32_t n = t5_catalog_n_models(p->catalog);
    const char *first = t5_catalog_profile(p->catalog, 0)->name;
    if (n == 1) snprintf(out, MODELS_TEXT_BYTES, "%s", first);
    if (n > 1) snprintf(out, MODELS_TEXT_BYTES, "%s and %d more", first, n - 1);
    return out;
}

static void notify_ready(const program *p)
{
    char models[MODELS_TEXT_BYTES];
    t5_model_stats stats;
    t5_catalog_stats(p->catalog, 0, &stats);
    t5_systemd_notify("READY=1\nSTATUS=%s on %s, %s", describe_models(p, models), stats.device, t5_http_url(p->http));
}

static void reload(program *p)
{
    const t5_reload r = {&p->config, &p->server, p->http, p->argc, p->argv, environ};
    t5_systemd_notify("RELOADING=1\nMONOTONIC_USEC=%" PRId64, t5_clock_ns() / 1000);
    t5_reload_run(&r);
    notify_ready(p);
}

/* Until a signal to stop comes. T5_ERR_DEVICE when the device fails first: only a new process can use it again. */
static t5_status serve(program *p, t5_error *err)
{
    const int64_t feed_ms = p->watchdog_ms / 4;
    const int64_t tick_ms = feed_ms > 0 && feed_ms < DEVICE_CHECK_MS ? feed_ms : DEVICE_CHECK_MS;
    notify_ready(p);
    for (;;) {
        int signal_number = wait_signal(p, tick_ms);
        if (signal_number == SIGHUP) {
            reload(p);
        } else if (signal_number > 0) {
            t5_log(T5_LOG_INFO, "draining signal=%s pending=%d", strsignal(signal_number), t5_http_pending(p->http));
            return T5_OK;
        }
        feed_watchdog(p);
        if (t5_server_is_lost(&p->server))
            return T5_FAIL(err, T5_ERR_DEVICE, "the device failed; start the server again");
    }
}

/* Waits until all that was accepted is answered, and for a moment after that: a request may be on its way on an open
 * connection, and its client deserves a 503 rather than a closed door. The moment is counted in ticks, not read from a
 * clock, so that one in which the whole process got no processor is one tick; and a tick is quiet only if no request
 * began and ended within it. Ends early when no connection is left, at the drain timeout, and at a second signal, which
 * it returns true for. */
static bool wait_answered(const program *p)
{
    const int64_t begin_ms = t5_clock_ms();
    int64_t n_begun = t5_http_begun(p->http);
    for (int32_t n_quiet = 0; n_quiet < QUIET_TICKS;) {
        if (t5_clock_ms() - begin_ms >= p->config.drain_timeout_ms) return false;
        if (t5_http_connections(p->http) == 0) return false;
        const int signal_number = wait_signal(p, TICK_MS);
        if (signal_number > 0 && signal_number != SIGHUP) return true;
        const int64_t n_begun_before = n_begun;
        n_begun = t5_http_begun(p->http);
        const bool is_quiet = t5_http_pending(p->http) == 0 && n_begun == n_begun_before;
        n_quiet = is_quiet ? n_quiet + (signal_number == 0) : 0;
    }
    return false;
}

/* Finishes what was accepted, as far as time allows; gives up the rest. False when work is stuck in the device. */
static bool drain(program *p)
{
    int64_t begin_ms = t5_clock_ms();
    t5_systemd_notify("STOPPING=1\nSTATUS=answering what was accepted");
    if (p->watchdog_ms > 0) /* nobody feeds it from now on */
        t5_systemd_notify("WATCHDOG_USEC=%" PRId64, (p->config.drain_timeout_ms + GIVE_UP_MS) * 1000);
    t5_http_drain(p->http);
    bool is_hurried = wait_answered(p);
    if (t5_http_pending(p->http) > 0)
        t5_log(T5_LOG_WARN, "giving_up pending=%d why=%s", t5_http_pending(p->http),
               is_hurried ? "second_signal" : "drain_timeout");

    int64_t given_up_ms = t5_clock_ms();
    while (t5_http_pending(p->http) > 0 && t5_clock_ms() - given_up_ms < SEND_MS) {
        t5_http_give_up(p->http);
        wait_signal(p, TICK_MS);
    }
    while (!t5_http_stop(p->http)) {
        if (t5_clock_ms() - given_up_ms > GIVE_UP_MS) return false;
        t5_http_give_up(p->http);
        wait_signal(p, TICK_MS);
    }
    p->http = NULL;
    p->is_opening = t5_catalog_is_opening(p->catalog);
    log_stopped(t5_clock_ms() - begin_ms, p->is_opening);
    return true;
}

static void close_program(program *p)
{
    if (p->listen_fd >= 0) close(p->listen_fd);
    t5_server_deinit(&p->server);
    t5_access_destroy(p->server.access);
    t5_catalog_close(p->catalog);
    t5_tls_stop();
}

static void log_listening(const program *p)
{
    char models[MODELS_TEXT_BYTES], quoted[2 * MODELS_TEXT_BYTES];
    t5_model_stats stats;
    const int32_t n_languages = p->server.rules.languages->n_codes;
    t5_log_quote(quoted, sizeof quoted, describe_models(p, models));
    t5_catalog_stats(p->catalog, 0, &stats);
    if (n_languages == 0)
        t5_log(T5_LOG_WARN, "no_languages model=%s text=\"%s\"", quoted,
               "every translation will be refused; add a t5serve.json to the folder, see models/README.md");
    t5_log(T5_LOG_INFO, "listening url=%s model=%s device=\"%s\" languages=%d version=%s", t5_http_url(p->http), quoted,
           stats.device, n_languages, T5_VERSION);
}

static t5_status run(program *p, t5_error *err)
{
    t5_status status = T5_OK;
    char quoted[2 * sizeof p->config.warning];
    p->listen_fd = -1;
    json_object_seed(0);
    t5_json_memory_watch();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that may grow no further is a log that cannot be written */
    sigemptyset(&p->signals);
    sigaddset(&p->signals, SIGTERM);
    sigaddset(&p->signals, SIGINT);
    sigaddset(&p->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &p->signals, NULL); /* threads inherit it */
    t5_reload_log(&p->config);
    p->watchdog_ms = t5_systemd_watchdog_ms();
    T5_TRY(t5_log_start(err));
    if (p->config.warning[0] != '\0')
        t5_log(T5_LOG_WARN, "config text=%s", t5_log_quote(quoted, sizeof quoted, p->config.warning));

    T5_TRY(load_tls(&p->config, err)); /* mistakes show before a large model is read */
    T5_TRY(load_access(p, err));
    T5_TRY(open_unless_stopped(p, err));
    T5_TRY(start_http(p, err));
    log_listening(p);
    status = serve(p, err);
    if (!drain(p)) {
        t5_log(T5_LOG_ERROR, "stuck text=\"the device does not answer; leaving without it\"");
        leave(EXIT_DEVICE);
    }
    if (status == T5_OK && p->is_opening) leave(EXIT_SUCCESS); /* it may take minutes */
out:
    close_program(p);
    return status;
}

static t5_status ask_health(program *p, t5_error *err)
{
    const t5_probe_options options = {.host = p->config.host,
                                      .port = (int32_t)p->config.port,
                                      .path_prefix = p->path_prefix,
                                      .is_tls = p->config.tls_cert[0] != '\0'};
    if (t5_head_prefix(p->config.url_prefix, p->path_prefix, err) != T5_OK) return err->status;
    return t5_probe(&options, err);
}

/* The last line: the program's name and the cause. It may have to wait its turn behind the log, but not for ever. */
static int complain(t5_status status, const t5_error *err)
{
    char line[T5_ERROR_TEXT_MAX + 16];
    snprintf(line, sizeof line, "t5serve: %s", err->text);
    t5_log_plain(line);
    t5_log_stop();
    return status == T5_ERR_ARG ? EXIT_USAGE : status == T5_ERR_DEVICE ? EXIT_DEVICE : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static program p;
    t5_error err = {0};
    t5_config_action action = T5_CONFIG_RUN;
    p.argc = argc;
    p.argv = argv;
    t5_stdio_reserve();
    if (argc > 1 && strcmp(argv[1], "keys") == 0) {
        t5_status done = t5_keys_command(argc - 1, argv + 1, stdout, &err);
        return done == T5_OK ? EXIT_SUCCESS : complain(done, &err);
    }
    t5_status status = t5_config_load(argc, argv, environ, &p.config, &action, &err);
    if (status != T5_OK) {
        complain(status, &err);
        return EXIT_USAGE;
    }
    if (action == T5_CONFIG_HELP) t5_config_print_help(stdout);
    if (action == T5_CONFIG_VERSION) printf("t5serve %s\n", T5_VERSION);
    if (action == T5_CONFIG_PRINT) status = t5_config_print(&p.config, stdout, &err);
    if (action == T5_CONFIG_HEALTH) status = ask_health(&p, &err);
    if (action == T5_CONFIG_RUN)
        status = run(&p, &err);
    else if (status == T5_OK)
        status = t5_stdio_flush(stdout, &err);
    if (status != T5_OK) return complain(status, &err);
    t5_log_stop();
    return EXIT_SUCCESS;
}
