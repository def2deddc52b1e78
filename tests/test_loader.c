/* tests/test_loader.c: which models of a catalog are open under a limit: the busy ones stay, what is too much goes, and
 * a model that cannot be opened costs nobody anything. Leases stand for requests. */
#include "base/clock.h"
#include "model_files.h"
#include "translate/catalog_internal.h"

#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE T5_SOURCE_DIR "/tests/fixtures/t5-v1.0"
#define WEIGHTS "model.safetensors"
#define SHORT_US 2000 /* between two requests: a loader that wants to close a model has the time */
#define GRACE_MS 1000 /* what exceeds the limit stays at least so long */
#define WAIT_MS 60000

enum { A, B, C, N_MODELS };

typedef struct {
    char dirs[N_MODELS][PATH_MAX];
    t5_catalog *catalog;
} rig;

static int rig_set_up(void **state)
{
    static rig r;
    static const char *const files[] = {"config.json", "generation_config.json", "spiece.model", WEIGHTS};
    r = (rig){0};
    for (int i = 0; i < N_MODELS; i++) {
        char profile[64];
        folder_make(r.dirs[i], sizeof r.dirs[i]);
        for (size_t k = 0; k < T5_COUNT(files); k++)
            file_copy(FIXTURE, r.dirs[i], files[k]);
        snprintf(profile, sizeof profile, "{\"name\": \"%c\", \"template\": \"\", \"pairs\": [[\"de\", \"en\"]]}",
                 'a' + i);
        file_write_text(r.dirs[i], "t5serve.json", profile);
    }
    *state = &r;
    return 0;
}

static int rig_tear_down(void **state)
{
    rig *r = *state;
    t5_catalog_close(r->catalog);
    for (int i = 0; i < N_MODELS; i++)
        folder_remove(r->dirs[i]);
    return 0;
}

#define WITH_MODELS(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)

static void open_catalog(rig *r, int32_t n_open_max)
{
    const char *dirs[N_MODELS] = {r->dirs[A], r->dirs[B], r->dirs[C]};
    t5_catalog_options options = {
        .dirs = dirs, .n_dirs = N_MODELS, .is_lazy = true, .n_open_max = n_open_max, .n_threads = 1};
    t5_error err = {0};
    t5_translator_options_init(&options.each);
    options.each.device = (t5_device_options){.device = "cpu", .compute_type = "float32", .n_threads = 1};
    options.each.engine = (t5_engine_options){.n_rows_max = T5_BEAMS_MAX, .src_len_max = 32, .tgt_len_max = 16};
    if (t5_catalog_open(&options, &r->catalog, &err) != T5_OK) fail_msg("%s", err.text);
}

/* ---- requests ---- */

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_ready; /* guarded by mutex */
} waiter;

static void on_ready(void *ctx)
{
    waiter *w = ctx;
    pthread_mutex_lock(&w->mutex);
    w->is_ready = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

/* Waits until the model is open, or cannot be opened. */
static t5_status take(rig *r, int32_t i, t5_lease *out)
{
    waiter w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    t5_error err = {0};
    bool waits = false;
    *out = (t5_lease){0};
    const t5_status status = t5_lease_take(r->catalog, i, 0, on_ready, &w, out, &waits, &err);
    if (status != T5_OK || !waits) return status;
    pthread_mutex_lock(&w.mutex);
    while (!w.is_ready)
        pthread_cond_wait(&w.changed, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
    return t5_lease_check(out, &err);
}

static void use(rig *r, int32_t i)
{
    t5_lease lease;
    assert_int_equal(take(r, i, &lease), T5_OK);
    t5_lease_return(&lease);
    usleep(SHORT_US);
}

static void use_in_vain(rig *r, int32_t i)
{
    t5_lease lease;
    pthread_mutex_lock(&r->catalog->mutex);
    r->catalog->models[i].retry_ms = 0; /* as if the time had come */
    pthread_mutex_unlock(&r->catalog->mutex);
    assert_int_equal(take(r, i, &lease), T5_ERR_BUSY);
}

static t5_model_stats stats_of(rig *r, int32_t i)
{
    t5_model_stats stats;
    t5_catalog_stats(r->catalog, i, &stats);
    return stats;
}

static bool is_open(rig *r, int32_t i)
{
    return stats_of(r, i).is_open;
}

static void wait_until_closed(rig *r, int32_t i)
{
    for (const int64_t end_ms = t5_clock_ms() + WAIT_MS; is_open(r, i); usleep(SHORT_US))
        assert_true(t5_clock_ms() < end_ms);
}

/* ---- busy models ---- */

/* Claim: a model that is asked again and again stays open while another one is in use all the time, and the limit is
 * kept when that ends: the one that was asked last stays, the other one is closed, but not in its first moment of
 * peace. Method: a limit of one. */
static void a_busy_model_stays_open(void **state)
{
    rig *r = *state;
    t5_lease lease;
    open_catalog(r, 1);
    assert_int_equal(take(r, B, &lease), T5_OK);
    for (int k = 0; k < 50; k++)
        use(r, A);
    assert_int_equal(stats_of(r, A).n_opened, 1);
    const int64_t begin_ms = t5_clock_ms();
    t5_lease_return(&lease);
    wait_until_closed(r, B);
    assert_true(t5_clock_ms() - begin_ms >= GRACE_MS);
    usleep(1500 * GRACE_MS);
    assert_true(is_open(r, A));
    assert_int_equal(stats_of(r, A).n_opened, 1);
}

/* Claim: two models that are asked in turn under a limit of one are not opened for each request, but about once in the
 * time that a model is left in peace. */
static void models_in_turn_do_not_chase_each_other(void **state)
{
    rig *r = *state;
    open_catalog(r, 1);
    const int64_t begin_ms = t5_clock_ms();
    for (int k = 0; k < 50; k++) {
        use(r, A);
        use(r, B);
    }
    const int64_t n_graces = (t5_clock_ms() - begin_ms) / GRACE_MS;
    assert_true(stats_of(r, A).n_opened + stats_of(r, B).n_opened <= 3 + 2 * n_graces);
}

/* Claim: before one more is opened, the one that was used least recently is closed, at once. */
static void the_least_recently_used_is_closed_first(void **state)
{
    rig *r = *state;
    open_catalog(r, 2);
    use(r, A);
    use(r, B);
    use(r, A);
    assert_true(is_open(r, A) && is_open(r, B));
    use(r, C);
    assert_true(is_open(r, A) && !is_open(r, B) && is_open(r, C));
}

/* ---- models that cannot be opened ---- */

static void break_model(rig *r, int32_t i)
{
    file_write_text(r->dirs[i], WEIGHTS, "no weights");
}

static void mend_model(rig *r, int32_t i)
{
    file_copy(FIXTURE, r->dirs[i], WEIGHTS);
    pthread_mutex_lock(&r->catalog->mutex);
    r->catalog->models[i].retry_ms = 0;
    pthread_mutex_unlock(&r->catalog->mutex);
}

/* Claim: a model that could not be opened although there was room for it closes no other one when it is tried again;
 * once it can be opened, the limit is kept. */
static void a_bad_model_closes_no_good_one(void **state)
{
    rig *r = *state;
    break_model(r, B);
    open_catalog(r, 1);
    use(r, A);
    use_in_vain(r, B); /* nobody knew: it may have been made room for */
    use(r, A);
    const int64_t n_opened = stats_of(r, A).n_opened;
    for (int k = 0; k < 3; k++) {
        use_in_vain(r, B);
        use(r, A);
    }
    assert_int_equal(stats_of(r, A).n_opened, n_opened);
    assert_int_equal(stats_of(r, B).n_failed, 4);
    mend_model(r, B);
    use(r, B);
    wait_until_closed(r, A);
    assert_true(is_open(r, B));
}

/* Claim: a model that failed while it had to be opened beyond the limit, where memory may have been what it lacked, is
 * made room for the next time. */
static void a_failure_beyond_the_limit_proves_nothing(void **state)
{
    rig *r = *state;
    t5_lease lease;
    break_model(r, B);
    open_catalog(r, 1);
    assert_int_equal(take(r, A, &lease), T5_OK);
    use_in_vain(r, B);
    t5_lease_return(&lease);
    mend_model(r, B);
    use(r, B);
    assert_true(!is_open(r, A) && is_open(r, B));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MODELS(a_busy_model_stays_open),
        WITH_MODELS(models_in_turn_do_not_chase_each_other),
        WITH_MODELS(the_least_recently_used_is_closed_first),
        WITH_MODELS(a_bad_model_closes_no_good_one),
        WITH_MODELS(a_failure_beyond_the_limit_proves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
