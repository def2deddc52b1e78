/* tests/simt/test_devices.c: two GPUs in one process. Each backend must make its device the calling thread's before it
 * allocates or launches, whatever that thread, or one before it with the same id, used last. */
#include "cuda/cuda_backend.h"
#include "model/batch.h"
#include "tests/assert_ok.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL T5_SOURCE_DIR "/tests/fixtures/silu-buckets"

enum { N_DEVICES = 2, SRC_LEN_MAX = 16, TGT_LEN_MAX = 12, NEW_TOKENS = 6 };

typedef struct {
    t5_backend *backends[N_DEVICES];
    t5_model *models[N_DEVICES];
    t5_batch *batches[N_DEVICES];
} rig;

/* As translate/translator.c does it: first all devices, then the model on each. */
static int setup(void **state)
{
    t5_error err = {0};
    rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    *state = r;
    const t5_batch_limits limits = {
        .n_rows_max = T5_BEAMS_MAX, .src_len_max = SRC_LEN_MAX, .tgt_len_max = TGT_LEN_MAX, .enc_tokens_max = 64};
    for (int i = 0; i < N_DEVICES; i++) {
        const t5_cuda_options options = {.device = i, .type = T5_F16, .is_deterministic = true};
        assert_ok(t5_cuda_create(&options, &r->backends[i], &err), &err);
    }
    for (int i = 0; i < N_DEVICES; i++) {
        assert_ok(t5_model_open(MODEL, r->backends[i], SRC_LEN_MAX, TGT_LEN_MAX, &r->models[i], &err), &err);
        assert_ok(t5_batch_create(r->models[i], &limits, &r->batches[i], &err), &err);
        assert_ok(t5_batch_warm_up(r->batches[i], &err), &err);
    }
    return 0;
}

static int teardown(void **state)
{
    rig *r = *state;
    for (int i = 0; i < N_DEVICES; i++) {
        t5_batch_destroy(r->batches[i]);
        t5_model_close(r->models[i]);
        if (r->backends[i] != NULL) r->backends[i]->ops->destroy(r->backends[i]);
    }
    free(r);
    return 0;
}

/* A sequence on one device; false when a call failed. No assertions: other threads run this too. */
typedef struct {
    t5_batch *batch;
    int32_t ids[NEW_TOKENS];
    t5_error err;
} decoding_task;

static void *decode(void *arg)
{
    decoding_task *task = arg;
    t5_status status = T5_OK;
    t5_error *err = &task->err;
    static const int32_t ids[] = {5, 9, 12, 1};
    int32_t slot = -1;
    t5_batch_result result;
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.max_new_tokens = decoding.min_new_tokens = NEW_TOKENS;
    const t5_batch_request request = {.input_ids = ids, .n_input_ids = T5_COUNT(ids), .decoding = &decoding};
    T5_TRY(t5_batch_admit(task->batch, &request, &slot, err));
    T5_TRY(t5_batch_encode(task->batch, err));
    while (!t5_batch_is_done(task->batch, slot))
        T5_TRY(t5_batch_step(task->batch, err));
    t5_batch_result_get(task->batch, slot, 0, &result);
    if (result.n_ids == NEW_TOKENS) memcpy(task->ids, result.ids, sizeof task->ids);
    t5_batch_release(task->batch, slot);
out:
    (void)status;
    return NULL;
}

static void assert_same(const decoding_task *a, const decoding_task *b)
{
    assert_ok(a->err.status, &a->err);
    assert_ok(b->err.status, &b->err);
    assert_true(a->ids[0] != 0);
    assert_memory_equal(a->ids, b->ids, sizeof a->ids);
}

/* Claim: one thread uses both devices in turns, and each gives the same tokens. */
static void one_thread_uses_both(void **state)
{
    const rig *r = *state;
    for (int round = 0; round < 3; round++) {
        decoding_task tasks[N_DEVICES] = {{.batch = r->batches[0]}, {.batch = r->batches[1]}};
        for (int i = 0; i < N_DEVICES; i++)
            decode(&tasks[i]);
        assert_same(&tasks[0], &tasks[1]);
    }
}

/* Claim: a thread that comes anew finds its device, even when it has the id of one that has gone. Method: threads one
 * after the other, which get the same id here; a new thread's current device is 0. */
static void new_threads_find_their_device(void **state)
{
    const rig *r = *state;
    for (int round = 0; round < 3; round++) {
        decoding_task tasks[N_DEVICES] = {{.batch = r->batches[0]}, {.batch = r->batches[1]}};
        for (int i = 0; i < N_DEVICES; i++) {
            pthread_t thread;
            assert_int_equal(pthread_create(&thread, NULL, decode, &tasks[i]), 0);
            pthread_join(thread, NULL);
        }
        assert_same(&tasks[0], &tasks[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_uses_both),
        cmocka_unit_test(new_threads_find_their_device),
    };
    return cmocka_run_group_tests_name("devices", tests, setup, teardown);
}
