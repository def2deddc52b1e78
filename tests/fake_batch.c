/* tests/fake_batch.c: see fake_batch.h. The engine's thread calls all but t5_batch_check(); the controls come from the
 * test's thread, so all shared state is behind one lock. */
#include "fake_batch.h"

#include "base/assert.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum { SLOT_FREE, SLOT_ADMITTED, SLOT_RUNNING } slot_phase;

typedef struct {
    slot_phase phase;
    int32_t n_rows, n_target, n_generated, n_told;
    bool wants_stream;
    int32_t *ids; /* [n_target] the result */
} fake_slot;

struct t5_batch {
    t5_batch_limits limits;
    fake_slot *slots; /* [n_rows_max] */
    int32_t n_gathered_tokens;
    pthread_t owner; /* of the first call that runs something */
    bool has_owner, has_stepped;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int n_calls[FAKE_N_OPS];
    int fails_at[FAKE_N_OPS]; /* absolute number of the call, -1: none */
    t5_status status[FAKE_N_OPS];
    bool is_closed, is_at_gate;
    int rows_peak, enc_tokens_peak, n_at_work, step_us;
    void (*during_encode)(void *ctx); /* NULL: nothing */
    void *during_encode_ctx;
} control = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void fake_batch_reset(void)
{
    pthread_mutex_lock(&control.mutex);
    memset(control.n_calls, 0, sizeof control.n_calls);
    for (int i = 0; i < FAKE_N_OPS; i++)
        control.fails_at[i] = -1;
    control.is_closed = control.is_at_gate = false;
    control.rows_peak = control.enc_tokens_peak = control.n_at_work = control.step_us = 0;
    control.during_encode = NULL;
    pthread_mutex_unlock(&control.mutex);
}

void fake_batch_fail(fake_op op, int i_call, t5_status status)
{
    pthread_mutex_lock(&control.mutex);
    control.fails_at[op] = control.n_calls[op] + i_call;
    control.status[op] = status;
    pthread_mutex_unlock(&control.mutex);
}

void fake_batch_close_gate(void)
{
    pthread_mutex_lock(&control.mutex);
    control.is_closed = true;
    pthread_mutex_unlock(&control.mutex);
}

void fake_batch_wait_at_gate(void)
{
    pthread_mutex_lock(&control.mutex);
    while (!control.is_at_gate)
        pthread_cond_wait(&control.changed, &control.mutex);
    pthread_mutex_unlock(&control.mutex);
}

void fake_batch_open_gate(void)
{
    pthread_mutex_lock(&control.mutex);
    control.is_closed = false;
    pthread_cond_broadcast(&control.changed);
    pthread_mutex_unlock(&control.mutex);
}

void fake_batch_during_encode(void (*f)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&control.mutex);
    control.during_encode = f;
    control.during_encode_ctx = ctx;
    pthread_mutex_unlock(&control.mutex);
}

void fake_batch_slow(int step_us)
{
    pthread_mutex_lock(&control.mutex);
    control.step_us = step_us;
    pthread_mutex_unlock(&control.mutex);
}

int fake_batch_n_calls(fake_op op)
{
    pthread_mutex_lock(&control.mutex);
    const int n = control.n_calls[op];
    pthread_mutex_unlock(&control.mutex);
    return n;
}

int fake_batch_n_at_work(void)
{
    pthread_mutex_lock(&control.mutex);
    const int n = control.n_at_work;
    pthread_mutex_unlock(&control.mutex);
    return n;
}

int fake_batch_rows_peak(void)
{
    pthread_mutex_lock(&control.mutex);
    const int n = control.rows_peak;
    pthread_mutex_unlock(&control.mutex);
    return n;
}

int fake_batch_enc_tokens_peak(void)
{
    pthread_mutex_lock(&control.mutex);
    const int n = control.enc_tokens_peak;
    pthread_mutex_unlock(&control.mutex);
    return n;
}

/* Counts a call and fails it when that was ordered. */
static t5_status call(fake_op op, t5_error *err)
{
    pthread_mutex_lock(&control.mutex);
    const bool fails = control.n_calls[op]++ == control.fails_at[op];
    const t5_status status = fails ? control.status[op] : T5_OK;
    pthread_mutex_unlock(&control.mutex);
    return fails ? T5_FAIL(err, status, "ordered failure") : T5_OK;
}

static void check_owner(t5_batch *b)
{
    if (!b->has_owner) b->owner = pthread_self();
    b->has_owner = true;
    T5_ASSERT(pthread_equal(b->owner, pthread_self()));
}

static fake_slot *used_slot(const t5_batch *b, int32_t slot)
{
    T5_ASSERT(slot >= 0 && slot < b->limits.n_rows_max && b->slots[slot].phase != SLOT_FREE);
    return &b->slots[slot];
}

t5_status t5_batch_create(t5_model *model, const t5_batch_limits *limits, t5_batch **out, t5_error *err)
{
    (void)model;
    const t5_status status = call(FAKE_CREATE, err);
    if (status != T5_OK) return status;
    t5_batch *b = calloc(1, sizeof *b);
    T5_ASSERT(b != NULL);
    b->limits = *limits;
    b->slots = calloc((size_t)limits->n_rows_max, sizeof *b->slots);
    T5_ASSERT(b->slots != NULL);
    *out = b;
    return T5_OK;
}

void t5_batch_destroy(t5_batch *b)
{
    if (b == NULL) return;
    for (int32_t i = 0; i < b->limits.n_rows_max; i++)
        T5_ASSERT(b->slots[i].phase == SLOT_FREE);
    free(b->slots);
    free(b);
}

t5_status t5_batch_check(const t5_batch *b, const t5_batch_request *request, t5_error *err)
{
    if (request->n_input_ids < 1 || request->n_input_ids > b->limits.src_len_max)
        return T5_FAIL(err, T5_ERR_ARG, "%d source tokens", request->n_input_ids);
    return call(FAKE_CHECK, err);
}

static int32_t n_rows_of(const t5_batch_request *request)
{
    return request->is_score ? 1 : request->decoding->num_beams;
}

bool t5_batch_fits(const t5_batch *b, const t5_batch_request *request)
{
    return t5_batch_n_rows_running(b) + n_rows_of(request) <= b->limits.n_rows_max &&
           b->n_gathered_tokens + request->n_input_ids <= b->limits.enc_tokens_max;
}

t5_status t5_batch_admit(t5_batch *b, const t5_batch_request *request, int32_t *out_slot, t5_error *err)
{
    check_owner(b);
    const t5_status status = call(FAKE_ADMIT, err);
    if (status != T5_OK) return status;
    if (!t5_batch_fits(b, request)) return T5_FAIL(err, T5_ERR_BUSY, "the batch is full");
    int32_t slot = 0;
    while (b->slots[slot].phase != SLOT_FREE)
        slot++;
    const int32_t n = request->n_input_ids;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    T5_ASSERT(ids != NULL);
    for (int32_t i = 0; i < n; i++)
        ids[i] = request->input_ids[n - 1 - i];
    b->slots[slot] = (fake_slot){.phase = SLOT_ADMITTED,
                                 .n_rows = n_rows_of(request),
                                 .n_target = n,
                                 .ids = ids,
                                 .wants_stream = request->wants_stream};
    b->n_gathered_tokens += n;
    *out_slot = slot;
    return T5_OK;
}

t5_status t5_batch_encode(t5_batch *b, t5_error *err)
{
    check_owner(b);
    T5_ASSERT(b->n_gathered_tokens > 0);
    const t5_status status = call(FAKE_ENCODE, err);
    if (status != T5_OK) return status;
    for (int32_t i = 0; i < b->limits.n_rows_max; i++)
        if (b->slots[i].phase == SLOT_ADMITTED) b->slots[i].phase = SLOT_RUNNING;
    pthread_mutex_lock(&control.mutex);
    if (b->n_gathered_tokens > control.enc_tokens_peak) control.enc_tokens_peak = b->n_gathered_tokens;
    void (*during)(void *ctx) = control.during_encode;
    control.during_encode = NULL;
    pthread_mutex_unlock(&control.mutex);
    if (during != NULL) during(control.during_encode_ctx);
    b->n_gathered_tokens = 0;
    return T5_OK;
}

static void pass_gate(t5_batch *b)
{
    const int32_t n_rows = t5_batch_n_rows_running(b);
    pthread_mutex_lock(&control.mutex);
    if (!b->has_stepped) control.n_at_work++;
    b->has_stepped = true;
    if (n_rows > control.rows_peak) control.rows_peak = n_rows;
    while (control.is_closed) {
        control.is_at_gate = true;
        pthread_cond_broadcast(&control.changed);
        pthread_cond_wait(&control.changed, &control.mutex);
    }
    control.is_at_gate = false;
    const struct timespec nap = {.tv_nsec = control.step_us * 1000L};
    pthread_mutex_unlock(&control.mutex);
    if (nap.tv_nsec > 0) nanosleep(&nap, NULL);
}

t5_status t5_batch_step(t5_batch *b, t5_error *err)
{
    check_owner(b);
    pass_gate(b);
    const t5_status status = call(FAKE_STEP, err);
    if (status != T5_OK) return status;
    for (int32_t i = 0; i < b->limits.n_rows_max; i++) {
        fake_slot *slot = &b->slots[i];
        T5_ASSERT(slot->phase != SLOT_ADMITTED);
        if (slot->phase == SLOT_RUNNING && slot->n_generated < slot->n_target) slot->n_generated++;
    }
    return T5_OK;
}

int32_t t5_batch_take_stable(t5_batch *b, int32_t slot, const int32_t **out_ids)
{
    check_owner(b);
    fake_slot *s = used_slot(b, slot);
    T5_ASSERT(s->wants_stream);
    const int32_t n = s->n_generated < s->n_target ? s->n_generated - s->n_told : 0;
    *out_ids = s->ids + s->n_told;
    s->n_told += n;
    return n;
}

int32_t t5_batch_rows_fair(const t5_batch *b, int32_t n_input_ids, int32_t n_prompt_ids, int32_t n_new_tokens)
{
    (void)n_input_ids;
    (void)n_prompt_ids;
    (void)n_new_tokens;
    return b->limits.n_rows_max / 2;
}

t5_status t5_batch_cut(t5_batch *b, int32_t slot, t5_error *err)
{
    check_owner(b);
    fake_slot *s = used_slot(b, slot);
    if (s->n_generated < s->n_target) s->n_target = s->n_generated + 1;
    return call(FAKE_CUT, err);
}

bool t5_batch_is_done(const t5_batch *b, int32_t slot)
{
    const fake_slot *s = used_slot(b, slot);
    return s->n_generated == s->n_target;
}

int32_t t5_batch_n_results(const t5_batch *b, int32_t slot)
{
    T5_ASSERT(t5_batch_is_done(b, slot));
    return used_slot(b, slot)->n_rows;
}

void t5_batch_result_get(const t5_batch *b, int32_t slot, int32_t i, t5_batch_result *out)
{
    T5_ASSERT(t5_batch_is_done(b, slot));
    const fake_slot *s = used_slot(b, slot);
    *out = (t5_batch_result){.n_ids = s->n_target, .ids = s->ids, .score = (float)-i};
}

void t5_batch_release(t5_batch *b, int32_t slot)
{
    check_owner(b);
    fake_slot *s = used_slot(b, slot);
    if (s->phase == SLOT_ADMITTED) b->n_gathered_tokens -= s->n_target;
    free(s->ids);
    *s = (fake_slot){.phase = SLOT_FREE};
}

int32_t t5_batch_n_running(const t5_batch *b)
{
    int32_t n = 0;
    for (int32_t i = 0; i < b->limits.n_rows_max; i++)
        n += b->slots[i].phase != SLOT_FREE;
    return n;
}

int32_t t5_batch_n_rows_running(const t5_batch *b)
{
    int32_t n = 0;
    for (int32_t i = 0; i < b->limits.n_rows_max; i++)
        n += b->slots[i].n_rows;
    return n;
}

t5_status t5_batch_warm_up(t5_batch *b, t5_error *err)
{
    (void)b;
    (void)err;
    return T5_OK;
}

t5_batch_memory t5_batch_memory_of(const t5_batch *b)
{
    (void)b;
    return (t5_batch_memory){.kv = 1};
}

t5_kv_usage t5_batch_kv_usage(const t5_batch *b)
{
    const int32_t n = t5_batch_n_running(b); /* a block for each */
    return (t5_kv_usage){.n_blocks = b->limits.n_rows_max, .n_reserved = n, .n_used = n};
}

t5_status t5_batch_outcome(const t5_batch *b, int32_t slot, t5_error *err)
{
    (void)err;
    T5_ASSERT(t5_batch_is_done(b, slot));
    return T5_OK;
}

int64_t t5_batch_n_nonfinite(const t5_batch *b)
{
    (void)b;
    return 0;
}
