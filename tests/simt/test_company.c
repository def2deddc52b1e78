/* tests/simt/test_company.c [N_SENTENCES [N_BATCHINGS]]: company changes no bit of a result on the GPU backend with its
 * own kernels (T5_CUDA_DETERMINISTIC). A model small enough for many sentences, yet with weights whose sums are split
 * over warps, sources longer than a chunk of attention and targets longer than a block of the cache. */
#include "cuda/cuda_backend.h"
#include "model/batch.h"
#include "tests/assert_ok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SRC_LEN_MAX = 72, TGT_LEN_MAX = 22, ROWS_MAX = 80, SENTENCES_MAX = 1000, TENSORS_MAX = 32 };
enum { D_MODEL = 64, D_KV = 16, N_HEADS = 2, D_FF = 160, VOCAB = 96, N_BUCKETS = 8 };

static int32_t n_sentences = SENTENCES_MAX, n_batchings = 20;

typedef struct {
    char dir[64];
    t5_backend *backend;
    t5_model *model;
    t5_batch *batch;
    uint64_t random;
} rig;

/* One result, to compare bit for bit. */
typedef struct {
    int32_t n_ids, ids[TGT_LEN_MAX];
    float score, logprobs[TGT_LEN_MAX];
} outcome;

typedef struct {
    int32_t n_ids, ids[SRC_LEN_MAX];
    int32_t num_beams, new_tokens;
} sentence;

static int32_t below(rig *r, int32_t n)
{
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((r->random >> 33) % (uint64_t)n);
}

/* ---- the model ---- */

typedef struct {
    char name[96];
    int32_t n_rows, n_cols; /* n_cols 0: a vector of ones */
    float scale;
} tensor;

static void add(tensor *list, int *n, const char *prefix, const char *name, int32_t n_rows, int32_t n_cols, float scale)
{
    assert_true(*n < TENSORS_MAX);
    tensor *t = &list[(*n)++];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    t->n_rows = n_rows;
    t->n_cols = n_cols;
    t->scale = scale;
}

static void add_layer(tensor *list, int *n, const char *stack, bool is_decoder)
{
    const int32_t inner = N_HEADS * D_KV;
    char prefix[64];
    for (int i = 0; i < (is_decoder ? 2 : 1); i++) {
        snprintf(prefix, sizeof prefix, "%s.block.0.layer.%d.%s.", stack, i,
                 i == 0 ? "SelfAttention" : "EncDecAttention");
        add(list, n, prefix, "q.weight", inner, D_MODEL, 0.06f);
        add(list, n, prefix, "k.weight", inner, D_MODEL, 0.2f);
        add(list, n, prefix, "v.weight", inner, D_MODEL, 0.2f);
        add(list, n, prefix, "o.weight", D_MODEL, inner, 0.3f);
        if (i == 0) add(list, n, prefix, "relative_attention_bias.weight", N_BUCKETS, N_HEADS, 1.0f);
        snprintf(prefix, sizeof prefix, "%s.block.0.layer.%d.", stack, i);
        add(list, n, prefix, "layer_norm.weight", D_MODEL, 0, 1.0f);
    }
    snprintf(prefix, sizeof prefix, "%s.block.0.layer.%d.", stack, is_decoder ? 2 : 1);
    add(list, n, prefix, "DenseReluDense.wi.weight", D_FF, D_MODEL, 0.2f);
    add(list, n, prefix, "DenseReluDense.wo.weight", D_MODEL, D_FF, 0.15f);
    add(list, n, prefix, "layer_norm.weight", D_MODEL, 0, 1.0f);
    snprintf(prefix, sizeof prefix, "%s.", stack);
    add(list, n, prefix, "final_layer_norm.weight", D_MODEL, 0, 1.0f);
}

static void write_weights(rig *r, FILE *f)
{
    tensor list[TENSORS_MAX];
    char header[8192];
    int n = 0, len = 0;
    uint64_t at = 0;
    add(list, &n, "", "shared.weight", VOCAB, D_MODEL, 1.0f);
    add_layer(list, &n, "encoder", false);
    add_layer(list, &n, "decoder", true);
    for (int i = 0; i < n; i++) {
        uint64_t n_bytes = 4u * (uint64_t)list[i].n_rows * (uint64_t)(list[i].n_cols > 0 ? list[i].n_cols : 1);
        char shape[32];
        snprintf(shape, sizeof shape, list[i].n_cols > 0 ? "%d,%d" : "%d", list[i].n_rows, list[i].n_cols);
        len += snprintf(header + len, sizeof header - (size_t)len,
                        "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", i == 0 ? "{" : ",",
                        list[i].name, shape, (unsigned long long)at, (unsigned long long)(at + n_bytes));
        at += n_bytes;
    }
    len += snprintf(header + len, sizeof header - (size_t)len, "}");
    len += snprintf(header + len, sizeof header - (size_t)len, "%*s", (8 - len % 8) % 8, "");
    uint64_t header_bytes = (uint64_t)len;
    fwrite(&header_bytes, sizeof header_bytes, 1, f);
    fwrite(header, 1, header_bytes, f);
    for (int i = 0; i < n; i++) {
        for (int32_t k = 0; k < list[i].n_rows * (list[i].n_cols > 0 ? list[i].n_cols : 1); k++) {
            float uniform = ((float)below(r, 1 << 20) / (float)(1 << 19) - 1.0f) * 1.7f * list[i].scale;
            float value = list[i].n_cols > 0 ? uniform : 1.0f;
            fwrite(&value, sizeof value, 1, f);
        }
    }
}

static FILE *create(const rig *r, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    return f;
}

static void write_model(rig *r)
{
    strcpy(r->dir, "/tmp/t5-company-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    FILE *f = create(r, "config.json");
    fprintf(f,
            "{\"model_type\":\"t5\",\"d_model\":%d,\"d_kv\":%d,\"d_ff\":%d,\"num_heads\":%d,\"num_layers\":1,"
            "\"vocab_size\":%d,\"relative_attention_num_buckets\":%d,\"relative_attention_max_distance\":32,"
            "\"layer_norm_epsilon\":1e-6,\"feed_forward_proj\":\"relu\",\"tie_word_embeddings\":true,"
            "\"pad_token_id\":0,\"eos_token_id\":1,\"decoder_start_token_id\":0,\"is_encoder_decoder\":true}\n",
            D_MODEL, D_KV, D_FF, N_HEADS, VOCAB, N_BUCKETS);
    fclose(f);
    f = create(r, "model.safetensors");
    write_weights(r, f);
    fclose(f);
}

static int setup(void **state)
{
    t5_error err = {0};
    rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    t5_cuda_options options = {.type = T5_F16, .is_deterministic = true};
    t5_batch_limits limits = {.n_rows_max = ROWS_MAX,
                              .src_len_max = SRC_LEN_MAX,
                              .tgt_len_max = TGT_LEN_MAX,
                              .enc_tokens_max = ROWS_MAX * SRC_LEN_MAX};
    r->random = 42;
    write_model(r);
    assert_ok(t5_cuda_create(&options, &r->backend, &err), &err);
    assert_ok(t5_model_open(r->dir, r->backend, SRC_LEN_MAX, TGT_LEN_MAX, &r->model, &err), &err);
    assert_ok(t5_batch_create(r->model, &limits, &r->batch, &err), &err);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig *r = *state;
    char path[128];
    t5_batch_destroy(r->batch);
    t5_model_close(r->model);
    r->backend->ops->destroy(r->backend);
    snprintf(path, sizeof path, "%s/config.json", r->dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", r->dir);
    unlink(path);
    rmdir(r->dir);
    free(r);
    return 0;
}

/* ---- sentences ---- */

/* Mostly short; every 32nd source is longer than a chunk of attention, every 32nd target than a block of the cache. */
static void make_sentence(rig *r, int32_t i, sentence *s)
{
    s->n_ids = i % 32 == 3 ? 65 + below(r, SRC_LEN_MAX - 65) : 1 + below(r, 12);
    s->new_tokens = i % 32 == 5 ? 18 + below(r, 3) : 1 + below(r, 3);
    s->num_beams = i % 8 == 1 ? 3 : 1;
    for (int32_t k = 0; k < s->n_ids; k++)
        s->ids[k] = 2 + below(r, VOCAB - 2);
    s->ids[s->n_ids - 1] = 1;
}

static int32_t admit(rig *r, const sentence *s)
{
    t5_error err = {0};
    int32_t slot = -1;
    t5_decoding decoding;
    t5_decoding_init(&decoding);
    decoding.num_beams = s->num_beams;
    decoding.max_new_tokens = s->new_tokens;
    t5_batch_request request = {
        .input_ids = s->ids, .n_input_ids = s->n_ids, .decoding = &decoding, .wants_logprobs = true};
    assert_ok(t5_batch_admit(r->batch, &request, &slot, &err), &err);
    return slot;
}

static void finish(rig *r, int32_t slot, outcome *out)
{
    t5_batch_result result;
    t5_batch_result_get(r->batch, slot, 0, &result);
    memset(out, 0, sizeof *out);
    out->n_ids = result.n_ids;
    out->score = result.score;
    assert_in_range(result.n_ids, 1, TGT_LEN_MAX);
    memcpy(out->ids, result.ids, (size_t)result.n_ids * sizeof *out->ids);
    memcpy(out->logprobs, result.logprobs, (size_t)result.n_ids * sizeof *out->logprobs);
    t5_batch_release(r->batch, slot);
}

/* Runs sentences order[0 .. n - 1] together, all admitted at once. */
static void run_together(rig *r, const sentence *sentences, const int32_t *order, int32_t n, outcome *out)
{
    t5_error err = {0};
    int32_t slots[ROWS_MAX];
    for (int32_t i = 0; i < n; i++)
        slots[i] = admit(r, &sentences[order[i]]);
    assert_ok(t5_batch_encode(r->batch, &err), &err);
    for (int32_t i = 0; i < n; i++) {
        while (!t5_batch_is_done(r->batch, slots[i]))
            assert_ok(t5_batch_step(r->batch, &err), &err);
    }
    for (int32_t i = 0; i < n; i++)
        finish(r, slots[i], &out[order[i]]);
}

static void shuffle(rig *r, int32_t *order)
{
    for (int32_t i = n_sentences - 1; i > 0; i--) {
        int32_t j = below(r, i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* Runs all sentences in an order and in companies drawn at random, of one sentence to as many as have rows. */
static void run_batching(rig *r, const sentence *sentences, int32_t *order, outcome *out)
{
    shuffle(r, order);
    for (int32_t i = 0; i < n_sentences;) {
        int32_t n_rows_max = below(r, 8) == 0 ? 1 + below(r, 4) : 1 + below(r, ROWS_MAX);
        int32_t n = 0, n_rows = 0;
        while (i + n < n_sentences && (n == 0 || n_rows + sentences[order[i + n]].num_beams <= n_rows_max))
            n_rows += sentences[order[i + n++]].num_beams;
        run_together(r, sentences, order + i, n, out);
        i += n;
    }
}

/* Claim: the same sentence gives the same tokens, scores and log-probabilities, bit for bit, in any company, a company
 * of one included. Method: random sentences, greedy and beams mixed, all of them in many batchings drawn at random. */
static void company_changes_no_bit(void **state)
{
    rig *r = *state;
    static sentence sentences[SENTENCES_MAX];
    static outcome first[SENTENCES_MAX], again[SENTENCES_MAX];
    static int32_t order[SENTENCES_MAX];
    int32_t n_different = 0;
    for (int32_t i = 0; i < n_sentences; i++) {
        make_sentence(r, i, &sentences[i]);
        order[i] = i;
    }
    run_batching(r, sentences, order, first);
    for (int32_t i_batching = 1; i_batching < n_batchings; i_batching++) {
        run_batching(r, sentences, order, again);
        for (int32_t i = 0; i < n_sentences; i++)
            assert_memory_equal(&again[i], &first[i], sizeof first[i]);
    }
    for (int32_t i = 1; i < n_sentences; i++) /* the results say something about the sentences */
        n_different += first[i].n_ids != first[i - 1].n_ids || first[i].ids[0] != first[i - 1].ids[0];
    assert_true(n_different > n_sentences / 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(company_changes_no_bit)};
    if (argc > 1) n_sentences = atoi(argv[1]);
    if (argc > 2) n_batchings = atoi(argv[2]);
    if (n_sentences < 2 || n_sentences > SENTENCES_MAX || n_batchings < 2) {
        fprintf(stderr, "usage: test_simt_company [N_SENTENCES [N_BATCHINGS]], at most %d sentences\n", SENTENCES_MAX);
        return 2;
    }
    return cmocka_run_group_tests_name("company", tests, setup, teardown);
}
