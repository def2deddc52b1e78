/* tests/test_quantize.c: weights of 8 and 4 bits: how a row is rounded, what `t5 quantize` writes, and that a quantised
 * folder computes what its original computes when it is quantised at load.
 * T5_TEST_DEVICE and T5_CUDA_PLUGIN: another device than the reference reads the folders. */
#include "cpu/cpu.h"
#include "device/device.h"
#include "model/batch.h"
#include "model/quantize.h"
#include "model/quantize_folder.h"
#include "tests/assert_ok.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_MAX 200

static float next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(*seed >> 40) / (float)(1 << 23) - 1.0f;
}

static void random_row(float *row, int32_t n, uint64_t seed)
{
    for (int32_t i = 0; i < n; i++)
        row[i] = next_random(&seed) * next_random(&seed) * next_random(&seed);
}

/* ---- rows ---- */

/* Claim: int8 is the nearest multiple of max / 127, and rows that have none become 0 or NaN. */
static void int8_rounds_to_nearest(void **state)
{
    (void)state;
    float row[N_MAX];
    int8_t q[N_MAX];
    for (int32_t n = 1; n <= N_MAX; n += 33) {
        random_row(row, n, (uint64_t)n);
        const float scale = t5_quantize_int8(row, n, q);
        int32_t largest = 0;
        for (int32_t i = 0; i < n; i++) {
            assert_true(fabsf((float)q[i] * scale - row[i]) <= 0.501f * scale);
            if (abs(q[i]) > largest) largest = abs(q[i]);
        }
        assert_int_equal(largest, 127);
    }
    static const float odd[][2] = {{0, 0}, {1e-45f, 0}, {NAN, 1}, {1, INFINITY}, {-INFINITY, NAN}};
    for (size_t i = 0; i < T5_COUNT(odd); i++) {
        const float scale = t5_quantize_int8(odd[i], 2, q);
        assert_true(isnan(scale) == (i >= 2));
        assert_int_equal(q[0], 0);
        assert_int_equal(q[1], 0);
    }
}

static double squared_error(const float *row, const uint8_t *q, const uint16_t *scales, int32_t n)
{
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) {
        const double error =
            (double)(q[i] - T5_INT4_ZERO) * (double)t5_bf16_to_f32(scales[i / T5_INT4_GROUP]) - (double)row[i];
        sum += error * error;
    }
    return sum;
}

/* The same of the plain way: steps of max / 7. */
static double plain_error(const float *row, int32_t n)
{
    double sum = 0.0;
    for (int32_t begin = 0; begin < n; begin += T5_INT4_GROUP) {
        const int32_t n_own = n - begin < T5_INT4_GROUP ? n - begin : T5_INT4_GROUP;
        float max = 0.0f;
        for (int32_t i = 0; i < n_own; i++)
            max = fmaxf(max, fabsf(row[begin + i]));
        for (int32_t i = 0; i < n_own; i++) {
            const double step = (double)max / 7.0;
            const double error = step * rint((double)row[begin + i] / step) - (double)row[begin + i];
            sum += error * error;
        }
    }
    return sum;
}

/* Claim: int4 is better than steps of max / 7, also in a group that is not full. Method: squared errors. */
static void int4_beats_the_plain_way(void **state)
{
    (void)state;
    float row[N_MAX];
    uint8_t q[N_MAX + T5_INT4_GROUP];
    uint16_t scales[N_MAX];
    double error = 0.0, plain = 0.0;
    for (int32_t n = 20; n <= N_MAX; n += 20) {
        memset(q, 77, sizeof q);
        random_row(row, n, (uint64_t)n);
        t5_quantize_int4(row, n, q, scales);
        error += squared_error(row, q, scales, n);
        plain += plain_error(row, n);
        const int32_t n_filled = (n + T5_INT4_GROUP - 1) / T5_INT4_GROUP * T5_INT4_GROUP;
        for (int32_t i = 0; i < n_filled; i++)
            assert_true(q[i] < 16 && (i < n || q[i] == T5_INT4_ZERO));
        if (n_filled < (int32_t)sizeof q) assert_int_equal(q[n_filled], 77);
    }
    assert_true(error < 0.8 * plain);
}

/* Claim: a weight that is not finite makes its group NaN and no other; zeros stay zeros. */
static void int4_passes_nan_on(void **state)
{
    (void)state;
    float row[96] = {0};
    uint8_t q[96];
    uint16_t scales[3];
    row[40] = INFINITY;
    row[95] = 1e-44f;
    t5_quantize_int4(row, 96, q, scales);
    assert_true(t5_bf16_to_f32(scales[0]) == 0.0f);
    assert_true(isnan(t5_bf16_to_f32(scales[1])));
    assert_true(isfinite(t5_bf16_to_f32(scales[2])));
    for (int32_t i = 0; i < 95; i++)
        assert_int_equal(q[i], T5_INT4_ZERO);
}

/* ---- folders ---- */

static const char *const families[] = {"t5-v1.0", "t5-v1.1", "flan-small-shape", "mt5",
                                       "umt5",    "byt5",    "madlad",           "silu-buckets"};

static void fixture_dir(const char *family, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "%s/tests/fixtures/%s", T5_SOURCE_DIR, family);
}

/* Quantises a fixture into the empty folder `out`. */
static t5_quantize_report quantize(const char *family, const char *out, t5_dtype type, int32_t panel)
{
    char dir[512];
    t5_error err = {0};
    t5_quantize_report report;
    fixture_dir(family, dir, sizeof dir);
    const t5_quantize_args args = {.dir = dir, .out_dir = out, .type = type, .panel = panel};
    assert_ok(t5_quantize_folder(&args, &report, &err), &err);
    return report;
}

#define N_IDS 20

/* Encoder states and logits of one sentence of n_ids, all in one array. The caller frees it. */
static float *probe_model(t5_model *model, int32_t n_ids, size_t *out_n)
{
    t5_error err = {0};
    t5_batch *batch = NULL;
    const t5_batch_limits limits = {
        .n_rows_max = T5_BEAMS_MAX, .src_len_max = 32, .tgt_len_max = 32, .enc_tokens_max = 32};
    int32_t source[N_IDS], target[N_IDS];
    assert_ok(t5_batch_create(model, &limits, &batch, &err), &err);
    for (int32_t i = 0; i < n_ids; i++) {
        source[i] = 3 + i * 7 % (model->hp.vocab_size - 3);
        target[i] = i == 0 ? model->hp.start_id : 3 + i * 11 % (model->hp.vocab_size - 3);
    }
    const size_t n_states = (size_t)n_ids * (size_t)model->hp.d_model;
    const size_t n_logits = (size_t)n_ids * (size_t)model->hp.vocab_size;
    float *out = malloc((n_states + n_logits) * sizeof *out);
    assert_non_null(out);
    assert_ok(t5_batch_probe(batch, source, n_ids, target, n_ids, out, out + n_states, &err), &err);
    t5_batch_destroy(batch);
    *out_n = n_states + n_logits;
    return out;
}

static float *run_model(const char *dir, t5_backend *backend, size_t *out_n)
{
    t5_error err = {0};
    t5_model *model = NULL;
    assert_ok(t5_model_open(dir, backend, 32, 32, &model, &err), &err);
    float *out = probe_model(model, N_IDS, out_n);
    t5_model_close(model);
    backend->ops->destroy(backend);
    return out;
}

static t5_backend *fast(t5_compute_type type)
{
    t5_error err = {0};
    t5_backend *b = NULL;
    const t5_cpu_options options = {.n_threads = 2, .compute_type = type};
    assert_ok(t5_cpu_create(&options, &b, &err), &err);
    return b;
}

/* Claim: a quantised folder gives the bits that its original gives when it is quantised at load, whether its panels are
 * those of this machine's kernels, and mapped, or not. Method: encoder states and logits of each family's fixture, tied
 * and untied heads, gates, shards, files of torch.save(), with each width of panels. */
static void folder_equals_quantizing_at_load(void **state)
{
    static const struct {
        t5_dtype dtype;
        t5_compute_type at_load;
    } types[] = {{T5_I8, T5_COMPUTE_INT8}, {T5_I4, T5_COMPUTE_INT4}};
    static const int32_t panels[] = {16, 32, 64};
    for (size_t i = 0; i < T5_COUNT(families) * T5_COUNT(types); i++) {
        const char *family = families[i / T5_COUNT(types)];
        const size_t i_type = i % T5_COUNT(types);
        char dir[512];
        size_t n = 0, n_folder = 0;
        fixture_dir(family, dir, sizeof dir);
        float *want = run_model(dir, fast(types[i_type].at_load), &n);
        for (size_t k = 0; k < T5_COUNT(panels); k++) {
            folder_clear(*state);
            const t5_quantize_report report = quantize(family, *state, types[i_type].dtype, panels[k]);
            assert_true(report.n_quantized > 10);
            float *got = run_model(*state, fast(T5_COMPUTE_AUTO), &n_folder);
            assert_int_equal(n, n_folder);
            if (memcmp(want, got, n * sizeof *want) != 0)
                fail_msg("%s, %s, panels of %d: other bits", family, t5_dtype_name(types[i_type].dtype), panels[k]);
            free(got);
        }
        free(want);
    }
}

static double max_error(const float *got, const float *want, size_t n)
{
    double largest = 0.0, worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i])) return INFINITY;
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    return worst / largest;
}

/* Claim: every backend reads quantised folders; those without such products expand the weights. Method: the device
 * against the fast backend in float32, which expands too. A device that multiplies with the table of a tied model does
 * not look at its quantised head, so its logits are nearer to the original's. */
static void any_device_expands_a_folder(void **state)
{
    const char *name = getenv("T5_TEST_DEVICE");
    const t5_device_options options = {
        .device = name != NULL ? name : "cpu-ref", .compute_type = "float32", .n_threads = 1};
    static const struct {
        const char *family;
        t5_dtype type;
        double error_max;
    } rows[] = {{"t5-v1.1", T5_I8, 1e-4}, {"madlad", T5_I4, 1e-4}, {"t5-v1.0", T5_I8, 2e-2}};
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        t5_error err = {0};
        t5_backend *device = NULL;
        size_t n = 0;
        folder_clear(*state);
        quantize(rows[i].family, *state, rows[i].type, 32);
        assert_ok(t5_device_open(&options, &device, &err), &err);
        float *got = run_model(*state, device, &n);
        float *want = run_model(*state, fast(T5_COMPUTE_F32), &n);
        assert_true(max_error(got, want, n) < rows[i].error_max);
        free(got);
        free(want);
    }
}

/* Claim: the file holds each weight within half a step, everything else unchanged, and nothing twice. Method: both
 * files read back. */
static void file_holds_the_weights(void **state)
{
    char dir[512];
    t5_error err = {0};
    t5_weights *from = NULL, *to = NULL;
    fixture_dir("t5-v1.0", dir, sizeof dir);
    quantize("t5-v1.0", *state, T5_I8, 16);
    assert_ok(t5_weights_open(dir, &from, &err), &err);
    assert_ok(t5_weights_open(*state, &to, &err), &err);
    const t5_tensor *t = NULL;
    const char *name = NULL;
    int32_t n_quantized = 0, n_same = 0;
    for (int32_t i = 0; (t = t5_weights_next(to, &i, &name)) != NULL;) {
        const t5_tensor *original = t5_weights_find(from, strcmp(name, "lm_head.weight") == 0 ? "shared.weight" : name);
        assert_non_null(original);
        float *want = malloc((size_t)t->n_cols * sizeof *want), *got = malloc((size_t)t->n_cols * sizeof *got);
        for (int32_t r = 0; r < t->n_rows; r++) {
            t5_tensor_row_f32(original, r, want);
            t5_tensor_row_f32(t, r, got);
            const float step = t->dtype == T5_I8 ? t5_tensor_row_scale(t, r) : 0.0f;
            for (int32_t k = 0; k < t->n_cols; k++)
                assert_true(fabsf(got[k] - want[k]) <= 0.501f * step);
        }
        n_quantized += t->dtype == T5_I8;
        n_same += t->dtype != T5_I8;
        free(want);
        free(got);
    }
    assert_true(n_quantized > 20 && n_same > 10);
    t5_weights_close(from);
    t5_weights_close(to);
}

/* Claim: nothing is overwritten, and nothing is quantised twice. */
static void folders_are_not_overwritten(void **state)
{
    char dir[512], inside[600];
    t5_error err = {0};
    t5_quantize_report report;
    fixture_dir("t5-v1.0", dir, sizeof dir);
    quantize("t5-v1.0", *state, T5_I8, 16);
    t5_quantize_args args = {.dir = dir, .out_dir = *state, .type = T5_I8, .panel = 64};
    assert_int_equal(t5_quantize_folder(&args, &report, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "is there already and not empty"));
    t5_error_clear(&err);
    snprintf(inside, sizeof inside, "%s/again", (const char *)*state);
    args = (t5_quantize_args){.dir = *state, .out_dir = inside, .type = T5_I8, .panel = 64};
    assert_int_equal(t5_quantize_folder(&args, &report, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "is int8 already; quantise the original"));
    assert_int_not_equal(access(inside, F_OK), 0);
    t5_error_clear(&err);
    args = (t5_quantize_args){.dir = dir, .out_dir = "/nowhere/at/all", .type = T5_I8, .panel = 64};
    assert_int_equal(t5_quantize_folder(&args, &report, &err), T5_ERR_IO);
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
}

/* Claim: a folder that is quantised in part is refused too, whatever the tensor is for. Method: an int8 tensor that the
 * model does not know, a norm and the embedding beside a head of its own, in a fixture that has none. */
static void quantized_parts_are_refused(void **state)
{
    static const struct {
        const char *family, *tensor;
        int32_t n_rows, n_cols;
    } rows[] = {
        {"flan-small-shape", "x", 3, 8},
        {"flan-small-shape", "encoder.final_layer_norm.weight", 1, 64},
        {"flan-small-shape", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 32, 6},
        {"flan-small-shape", "shared.weight", 1024, 64},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        char dir[512], inside[600], text[200];
        t5_error err = {0};
        t5_quantize_report report;
        fixture_dir(rows[i].family, dir, sizeof dir);
        folder_clear(*state);
        file_copy(dir, *state, "config.json");
        file_copy(dir, *state, "model.safetensors");
        safetensors_add_int8(*state, rows[i].tensor, rows[i].n_rows, rows[i].n_cols);
        snprintf(inside, sizeof inside, "%s/out", (const char *)*state);
        snprintf(text, sizeof text, "tensor \"%s\" is int8 already; quantise the original", rows[i].tensor);
        const t5_quantize_args args = {.dir = *state, .out_dir = inside, .type = T5_I8, .panel = 32};
        assert_int_equal(t5_quantize_folder(&args, &report, &err), T5_ERR_ARG);
        if (strstr(err.text, text) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, text);
        assert_int_not_equal(access(inside, F_OK), 0);
    }
}

/* Claim: two weights of a file of torch.save() that share one storage become two. Method: a fixture whose pickle names
 * the storage of another weight of the same shape; the folder computes what that file does when quantised at load. */
static void shared_storages_are_quantized(void **state)
{
    static const char name[] = "encoder.block.0.layer.0.SelfAttention.v.weight", key[] = "X\1\0\0\0"
                                                                                         "3";
    char dir[512], inside[600];
    t5_error err = {0};
    t5_quantize_report report;
    size_t n = 0, n_folder = 0;
    fixture_dir("byt5", dir, sizeof dir);
    file_copy(dir, *state, "config.json");
    bytes b = file_read(dir, "pytorch_model.bin");
    unsigned char *place = memmem(b.at, b.n, name, sizeof name - 1);
    assert_non_null(place);
    place = memmem(place, 60 + sizeof name, key, sizeof key - 1);
    assert_non_null(place);
    place[sizeof key - 2] = '2'; /* of SelfAttention.k */
    file_write(*state, "pytorch_model.bin", b.at, b.n);
    bytes_free(&b);
    snprintf(inside, sizeof inside, "%s/out", (const char *)*state);
    const t5_quantize_args args = {.dir = *state, .out_dir = inside, .type = T5_I8, .panel = 32};
    assert_ok(t5_quantize_folder(&args, &report, &err), &err);
    float *want = run_model(*state, fast(T5_COMPUTE_INT8), &n),
          *got = run_model(inside, fast(T5_COMPUTE_AUTO), &n_folder);
    assert_int_equal(n, n_folder);
    assert_memory_equal(want, got, n * sizeof *want);
    free(want);
    free(got);
    folder_clear(inside);
    assert_int_equal(rmdir(inside), 0);
}

/* Writes a fixture to `out` as transformers 5 would: its config says of every model that it is tied, and of scales only
 * what the family has a key for. */
static void save_as_5(const char *family, const char *out)
{
    char dir[512], path[600];
    fixture_dir(family, dir, sizeof dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    json_t *config = json_load_file(path, 0, NULL);
    const bool is_mt5 = strcmp(json_string_value(json_object_get(config, "model_type")), "mt5") == 0;
    if (!is_mt5) json_object_set(config, "scale_decoder_outputs", json_object_get(config, "tie_word_embeddings"));
    json_object_set_new(config, "tie_word_embeddings", json_true());
    json_object_set_new(config, "transformers_version", json_string("5.0.0"));
    snprintf(path, sizeof path, "%s/config.json", out);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
    file_copy(dir, out, "model.safetensors");
}

/* Claim: a model with a head of its own computes the same when transformers 5 has saved it, also quantised. Method:
 * fixtures with such a head, as they are and as transformers 5 writes them. */
static void heads_of_transformers_5_are_used(void **state)
{
    static const char *const with_head[] = {"mt5", "flan-small-shape", "madlad"};
    for (size_t i = 0; i < T5_COUNT(with_head); i++) {
        char dir[512], inside[600];
        t5_error err = {0};
        t5_quantize_report report;
        size_t n = 0, n_saved = 0;
        fixture_dir(with_head[i], dir, sizeof dir);
        folder_clear(*state);
        save_as_5(with_head[i], *state);
        snprintf(inside, sizeof inside, "%s/out", (const char *)*state);
        const t5_quantize_args args = {.dir = *state, .out_dir = inside, .type = T5_I8, .panel = 32};
        assert_ok(t5_quantize_folder(&args, &report, &err), &err);
        float *want = run_model(dir, fast(T5_COMPUTE_INT8), &n),
              *got = run_model(*state, fast(T5_COMPUTE_INT8), &n_saved);
        assert_int_equal(n, n_saved);
        assert_memory_equal(got, want, n * sizeof *want);
        free(got);
        got = run_model(inside, fast(T5_COMPUTE_AUTO), &n_saved);
        assert_memory_equal(got, want, n * sizeof *want);
        free(want);
        free(got);
        folder_clear(inside);
        assert_int_equal(rmdir(inside), 0);
    }
}

/* Bytes in memory of the mapped weights of the one model that is open. */
static int64_t resident_bytes(void)
{
    char line[PATH_MAX + 128];
    bool is_weights = false;
    long long kb = 0, kb_of_map = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *path = strchr(line, '/');
        const bool is_head =
            strchr(line, '-') != NULL && strchr(line, ':') > strchr(line, ' '); /* "from-to r--p ..." */
        if (is_head) is_weights = path != NULL && strstr(path, "/model.safetensors") != NULL;
        if (is_weights && sscanf(line, "Rss: %lld kB", &kb_of_map) == 1) kb += kb_of_map;
    }
    fclose(file);
    return kb * 1024;
}

static const char bundled[] = T5_SOURCE_DIR "/models/t5-tatoeba";

static int64_t weights_bytes(const char *dir)
{
    t5_error err = {0};
    t5_weights *weights = NULL;
    t5_weights_summary summary;
    assert_ok(t5_weights_open(dir, &weights, &err), &err);
    t5_weights_summarize(weights, true, &summary);
    t5_weights_close(weights);
    return summary.n_bytes;
}

/* Claim: a weight is in memory once: what was packed leaves the file's pages. Method: the bundled model, whose products
 * are most of its file. */
static void packed_weights_leave_the_map(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_model *model = NULL;
    t5_backend *backend = fast(T5_COMPUTE_INT8);
    const int64_t n_bytes = weights_bytes(bundled);
    assert_ok(t5_model_open(bundled, backend, 32, 32, &model, &err), &err);
    assert_true(resident_bytes() < n_bytes / 4);
    t5_model_close(model);
    backend->ops->destroy(backend);
}

/* Claim: products read a quantised folder's file where it is when its panels are those of the kernels, and a tied head
 * counts once as parameters. Method: pages of the file in memory before and after a few tokens, for the bundled model,
 * whose products are half of the quantised file or more; with panels of another width the file is left, which shows
 * that the measure can tell. */
static void folder_is_mapped(void **state)
{
    static const t5_dtype types[] = {T5_I8, T5_I4};
    for (size_t i = 0; i < 2 * T5_COUNT(types); i++) {
        const bool is_same = i < T5_COUNT(types);
        const int32_t own = t5_cpu_panel(), other = own == 64 ? 32 : 64;
        t5_error err = {0};
        t5_model *model = NULL;
        t5_quantize_report report;
        folder_clear(*state);
        const t5_quantize_args args = {
            .dir = bundled, .out_dir = *state, .type = types[i % T5_COUNT(types)], .panel = is_same ? own : other};
        assert_ok(t5_quantize_folder(&args, &report, &err), &err);
        t5_backend *backend = fast(T5_COMPUTE_AUTO);
        const int64_t n_bytes = weights_bytes(*state);
        assert_ok(t5_model_open(*state, backend, 32, 32, &model, &err), &err);
        assert_true(resident_bytes() < n_bytes / 4);
        size_t n = 0;
        free(probe_model(model, 4, &n));
        if (is_same) assert_true(resident_bytes() > n_bytes / 3);
        if (!is_same) assert_true(resident_bytes() < n_bytes / 4);
        t5_weights_summary summary;
        t5_weights_summarize(model->weights, model->hp.is_tied, &summary);
        assert_int_equal(summary.panel, args.panel);
        assert_true(summary.n_params < 8 * 1000 * 1000); /* 7.34 million; with the head twice 9.4 */
        t5_model_close(model);
        backend->ops->destroy(backend);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_rounds_to_nearest),
        cmocka_unit_test(int4_beats_the_plain_way),
        cmocka_unit_test(int4_passes_nan_on),
        IN_FOLDER(folder_equals_quantizing_at_load),
        IN_FOLDER(any_device_expands_a_folder),
        IN_FOLDER(file_holds_the_weights),
        IN_FOLDER(folder_is_mapped),
        IN_FOLDER(folders_are_not_overwritten),
        IN_FOLDER(quantized_parts_are_refused),
        IN_FOLDER(shared_storages_are_quantized),
        IN_FOLDER(heads_of_transformers_5_are_used),
        cmocka_unit_test(packed_weights_leave_the_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
