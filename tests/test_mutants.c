/* tests/test_mutants.c: model folders with random damage. Each is read without a crash, and is either refused with one
 * line that names its folder, or every number in it can be read. Which damage a file gets follows from a counter, so a
 * failure can be repeated; the sanitizers watch for reads outside the files. */
#include "model/decoding.h"
#include "model/hparams.h"
#include "model/quantize_folder.h"
#include "model/weights.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_mutants, n_refused; /* printed at the end */

/* A linear congruential generator (Knuth's MMIX constants). */
static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Damages 1 to 4 places in [from, to) of b: a flipped bit, another byte, a number at its limit, or a copied piece. */
static void damage(bytes *b, size_t from, size_t to, uint64_t *seed)
{
    static const unsigned char limits[] = {0, 1, 0x7f, 0x80, 0xff};
    for (uint32_t i = 0, n = 1 + next_random(seed) % 4; i < n; i++) {
        size_t at = from + next_random(seed) % (to - from), n_left = to - at;
        size_t n_bytes = 1 + next_random(seed) % (n_left < 8 ? n_left : 8);
        switch (next_random(seed) % 4) {
        case 0:
            b->at[at] ^= (unsigned char)(1u << next_random(seed) % 8);
            break;
        case 1:
            b->at[at] = (unsigned char)next_random(seed);
            break;
        case 2:
            memset(b->at + at, limits[next_random(seed) % T5_COUNT(limits)], n_bytes);
            break;
        default:
            memmove(b->at + at, b->at + from + next_random(seed) % (to - from - n_bytes + 1), n_bytes);
            break;
        }
    }
}

/* Damages a text: a piece is cut out or doubled, or a byte becomes another of those that JSON is made of. */
static void damage_json(bytes *b, uint64_t *seed)
{
    static const char letters[] = "{}[]\":,-.0123456789eE \\ntfu\xff";
    size_t at = next_random(seed) % b->n, n_left = b->n - at, n = 1 + next_random(seed) % (n_left < 16 ? n_left : 16);
    switch (next_random(seed) % 4) {
    case 0:
        memmove(b->at + at, b->at + at + n, n_left - n);
        b->n -= n;
        break;
    case 1: {
        bytes piece = {0};
        bytes_add(&piece, b->at + at, n_left);
        b->n = at + n;
        bytes_add(b, piece.at, piece.n);
        bytes_free(&piece);
        break;
    }
    case 2:
        b->n = at;
        break;
    default:
        b->at[at] = (unsigned char)letters[next_random(seed) % (sizeof letters - 1)];
        break;
    }
}

static const char *const names[] = {
    "shared.weight",
    "encoder.embed_tokens.weight",
    "lm_head.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "encoder.block.1.layer.1.DenseReluDense.wo.weight",
    "decoder.block.0.layer.1.EncDecAttention.k.weight",
    "decoder.final_layer_norm.weight",
};

/* Reads the whole of some tensors, so that a sanitizer sees where they are. */
static void read_tensors(const t5_weights *w)
{
    for (size_t i = 0; i < T5_COUNT(names); i++) {
        const t5_tensor *tensor = t5_weights_find(w, names[i]);
        if (tensor == NULL) continue;
        float *row = malloc((size_t)tensor->n_cols * sizeof *row);
        assert_non_null(row);
        t5_tensor_row_f32(tensor, 0, row);
        t5_tensor_row_f32(tensor, tensor->n_rows - 1, row);
        free(row);
    }
}

/* Reads all of a folder as a program that starts would. */
static t5_status read_folder(const char *dir, t5_error *err)
{
    t5_hparams hp;
    t5_decoding decoding;
    t5_weights *w = NULL;
    t5_status status = T5_OK;
    t5_error_clear(err);
    t5_decoding_init(&decoding);
    T5_TRY(t5_hparams_load(dir, &hp, err));
    T5_TRY(t5_decoding_load(dir, &decoding, err));
    T5_TRY(t5_weights_open(dir, &w, err));
    read_tensors(w);
out:
    t5_weights_close(w);
    return status;
}

/* Reads the folder; a refusal must be in order. Returns true when it was refused. */
static bool try_folder(const char *dir, const char *what, int i_mutant)
{
    t5_error err;
    t5_status status = read_folder(dir, &err);
    n_mutants++;
    if (status == T5_OK) return false;
    n_refused++;
    bool is_clean = (status == T5_ERR_FORMAT || status == T5_ERR_IO) && err.status == status &&
                    strstr(err.text, dir) != NULL && strchr(err.text, '\n') == NULL;
    if (!is_clean) fail_msg("%s mutant %d: status %d, \"%s\"", what, i_mutant, (int)status, err.text);
    return true;
}

static void copy_fixture(const char *fixture, const char *dir, const char *const *files)
{
    char from[512];
    snprintf(from, sizeof from, "%s/tests/fixtures/%s", T5_SOURCE_DIR, fixture);
    file_copy(from, dir, "config.json");
    file_copy(from, dir, "generation_config.json");
    for (; *files != NULL; files++)
        file_copy(from, dir, *files);
    t5_error err;
    if (read_folder(dir, &err) != T5_OK) fail_msg("%s", err.text);
}

/* Runs n mutants of dir/name, damaged in [from, to), and puts the good file back. Returns how many were refused. */
static int run_binary(const char *dir, const char *name, size_t from, size_t to, int n)
{
    int n_bad = 0;
    bytes good = file_read(dir, name);
    if (to > good.n) to = good.n;
    for (int i = 0; i < n; i++) {
        uint64_t seed = (uint64_t)i * 1000003u + from;
        bytes mutant = {0};
        bytes_add(&mutant, good.at, good.n);
        damage(&mutant, from, to, &seed);
        file_patch(dir, name, from, mutant.at + from, to - from);
        bytes_free(&mutant);
        n_bad += try_folder(dir, name, i);
    }
    file_patch(dir, name, from, good.at + from, to - from);
    bytes_free(&good);
    return n_bad;
}

static int run_json(const char *dir, const char *name, int n)
{
    int n_bad = 0;
    bytes good = file_read(dir, name);
    for (int i = 0; i < n; i++) {
        uint64_t seed = (uint64_t)i * 7919u + 5;
        bytes mutant = {0};
        bytes_add(&mutant, good.at, good.n);
        damage_json(&mutant, &seed);
        file_write(dir, name, mutant.at, mutant.n);
        bytes_free(&mutant);
        n_bad += try_folder(dir, name, i);
    }
    file_write(dir, name, good.at, good.n);
    bytes_free(&good);
    return n_bad;
}

/* Every shorter or longer file must be refused. */
static void run_lengths(const char *dir, const char *name, int n)
{
    bytes good = file_read(dir, name);
    for (int i = 0; i < n; i++) {
        uint64_t seed = (uint64_t)i + 17;
        size_t n_cut = i < n / 2 ? (size_t)i + 1 : 1 + next_random(&seed) % good.n;
        file_write(dir, name, good.at, good.n - n_cut);
        if (!try_folder(dir, name, i)) fail_msg("%s without its last %zu bytes was accepted", name, n_cut);
    }
    bytes_add(&good, "", 1);
    file_write(dir, name, good.at, good.n);
    if (!try_folder(dir, name, n)) fail_msg("%s with a byte more was accepted", name);
    file_write(dir, name, good.at, good.n - 1);
    bytes_free(&good);
}

/* Claim: damaged JSON files of a folder do no harm. Method: config.json, generation_config.json. */
static void damaged_settings(void **state)
{
    copy_fixture("silu-buckets", *state, (const char *const[]){"model.safetensors", NULL});
    assert_true(run_json(*state, "config.json", 500) > 200);
    assert_true(run_json(*state, "generation_config.json", 300) > 100);
}

/* Claim: damaged safetensors, and files of another length, do no harm. Method: the header of one file. */
static void damaged_safetensors(void **state)
{
    copy_fixture("silu-buckets", *state, (const char *const[]){"model.safetensors", NULL});
    assert_true(run_binary(*state, "model.safetensors", 0, 8, 50) > 25);
    assert_true(run_binary(*state, "model.safetensors", 8, 5000, 500) > 300);
    run_lengths(*state, "model.safetensors", 100);
}

/* Claim: a damaged index does no harm. Method: JSON damage to the index of six shards. */
static void damaged_index(void **state)
{
    static const char *const files[] = {"model.safetensors.index.json",     "model-00001-of-00006.safetensors",
                                        "model-00002-of-00006.safetensors", "model-00003-of-00006.safetensors",
                                        "model-00004-of-00006.safetensors", "model-00005-of-00006.safetensors",
                                        "model-00006-of-00006.safetensors", NULL};
    copy_fixture("t5-v1.1", *state, files);
    assert_true(run_json(*state, "model.safetensors.index.json", 300) > 100);
}

/* Claim: damaged files of torch.save() do no harm. Method: the pickle, which comes first in the file, and the zip
 * directory, which comes last. */
static void damaged_torch_files(void **state)
{
    static const char *const files[] = {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin",
                                        "pytorch_model-00002-of-00002.bin", NULL};
    const char *shard = "pytorch_model-00001-of-00002.bin";
    copy_fixture("umt5", *state, files);
    bytes good = file_read(*state, shard);
    size_t n = good.n;
    bytes_free(&good);
    assert_true(run_binary(*state, shard, 0, 3300, 700) > 400);
    assert_true(run_binary(*state, shard, n - 3000, n, 400) > 150);
    run_lengths(*state, shard, 100);
}

/* Claim: damaged folders of quantised weights do no harm. Method: the header, settings, and lengths of int8 and int4.
 */
static void damaged_quantized(void **state)
{
    static const t5_dtype types[] = {T5_I8, T5_I4};
    char from[512];
    snprintf(from, sizeof from, "%s/tests/fixtures/silu-buckets", T5_SOURCE_DIR);
    for (size_t i = 0; i < T5_COUNT(types); i++) {
        t5_error err = {0};
        t5_quantize_report report;
        folder_clear(*state);
        const t5_quantize_args args = {.dir = from, .out_dir = *state, .type = types[i], .panel = 32};
        if (t5_quantize_folder(&args, &report, &err) != T5_OK) fail_msg("%s", err.text);
        assert_true(run_binary(*state, "model.safetensors", 8, 5000, 300) > 150);
        assert_true(run_json(*state, "config.json", 200) > 80);
        run_lengths(*state, "model.safetensors", 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(damaged_settings),    IN_FOLDER(damaged_safetensors), IN_FOLDER(damaged_index),
        IN_FOLDER(damaged_torch_files), IN_FOLDER(damaged_quantized),
    };
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%d mutants, %d refused\n", n_mutants, n_refused);
    return n_failed;
}
