/* tests/fixture.c: see fixture.h. */
#include "tests/fixture.h"
#include "tests/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Below this a greedy result hangs on rounding (fixtures/README.md). */
static const double MARGIN_MIN = 1e-3;

static void open_expected(fixture *f, t5_error *err)
{
    char target[640];
    char link_path[128];
    strcpy(f->expected_dir, "/tmp/t5-fixture-XXXXXX");
    assert_non_null(mkdtemp(f->expected_dir));
    snprintf(target, sizeof target, "%s/expected.safetensors", f->dir);
    snprintf(link_path, sizeof link_path, "%s/model.safetensors", f->expected_dir);
    assert_int_equal(symlink(target, link_path), 0);
    t5_status status = t5_weights_open(f->expected_dir, &f->expected, err);
    unlink(link_path);
    rmdir(f->expected_dir);
    assert_ok(status, err);
}

void fixture_open_at(fixture *f, const char *name, const char *model_dir, t5_backend *backend)
{
    t5_error err = {0};
    char path[640];
    memset(f, 0, sizeof *f);
    f->backend = backend;
    snprintf(f->dir, sizeof f->dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, name);
    t5_batch_limits limits = {.n_rows_max = 64, .src_len_max = 512, .tgt_len_max = 256, .enc_tokens_max = 1024};
    assert_ok(t5_model_open(model_dir, backend, limits.src_len_max, limits.tgt_len_max, &f->model, &err), &err);
    assert_ok(t5_batch_create(f->model, &limits, &f->batch, &err), &err);
    open_expected(f, &err);
    snprintf(path, sizeof path, "%s/expected.json", f->dir);
    f->json = json_load_file(path, 0, NULL);
    assert_non_null(f->json);
    assert_true(fixture_n_cases(f) > 0);
}

void fixture_open(fixture *f, const char *name, t5_backend *backend)
{
    char dir[sizeof f->dir];
    snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, name);
    fixture_open_at(f, name, dir, backend);
}

void fixture_close(fixture *f)
{
    json_decref(f->json);
    t5_weights_close(f->expected);
    t5_batch_destroy(f->batch);
    t5_model_close(f->model);
    f->backend->ops->destroy(f->backend);
}

size_t fixture_n_cases(const fixture *f)
{
    return json_array_size(json_object_get(f->json, "cases"));
}

const json_t *fixture_case(const fixture *f, size_t i)
{
    return json_array_get(json_object_get(f->json, "cases"), i);
}

int32_t *fixture_ids(const json_t *array, int32_t *out_n)
{
    size_t n = json_array_size(array);
    int32_t *ids = calloc(n + 1, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    *out_n = (int32_t)n;
    return ids;
}

double max_rel_error(const float *a, const float *b, size_t n)
{
    double error = 0.0;
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i])) return INFINITY;
        double difference = fabs((double)a[i] - (double)b[i]);
        if (difference > error) error = difference;
        if (fabs((double)b[i]) > largest) largest = fabs((double)b[i]);
    }
    return error / largest;
}

float *fixture_expected(const fixture *f, size_t i_case, const char *what, int32_t *out_rows, int32_t *out_cols)
{
    char name[64];
    snprintf(name, sizeof name, "%zu.%s", i_case, what);
    const t5_tensor *t = t5_weights_find(f->expected, name);
    assert_non_null(t);
    float *values = malloc((size_t)t->n_rows * (size_t)t->n_cols * sizeof *values);
    assert_non_null(values);
    for (int32_t r = 0; r < t->n_rows; r++)
        t5_tensor_row_f32(t, r, values + (size_t)r * (size_t)t->n_cols);
    *out_rows = t->n_rows;
    *out_cols = t->n_cols;
    return values;
}

void fixture_decoding(const json_t *generate, t5_decoding *out)
{
    t5_error err = {0};
    t5_decoding_init(out);
    assert_ok(t5_decoding_set_object(out, json_object_get(generate, "settings"), &err), &err);
}

int32_t fixture_trim(const fixture *f, const int32_t *ids, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] == f->model->hp.eos_id) return i + 1;
    }
    return n;
}

/* Two beams that Hugging Face itself scores almost equal may change places. */
static bool is_tie(const json_t *scores, size_t i)
{
    double score = json_real_value(json_array_get(scores, i));
    for (size_t k = 0; k < json_array_size(scores); k++) {
        if (k != i && fabs(json_real_value(json_array_get(scores, k)) - score) < 2e-6) return true;
    }
    return false;
}

void fixture_check_results(const fixture *f, int32_t slot, const json_t *generate, double score_tol)
{
    const json_t *sequences = json_object_get(generate, "sequences");
    const json_t *scores = json_object_get(generate, "scores");
    const json_t *margin = json_object_get(generate, "margin");
    char *settings = json_dumps(json_object_get(generate, "settings"), 0);
    size_t n = json_array_size(sequences);
    assert_true(n >= 1);
    assert_true((size_t)t5_batch_n_results(f->batch, slot) >= n);
    for (size_t i = 0; i < n; i++) {
        t5_batch_result result;
        int32_t n_expected = 0;
        int32_t *expected = fixture_ids(json_array_get(sequences, i), &n_expected);
        t5_batch_result_get(f->batch, slot, (int32_t)i, &result);
        bool may_differ = (margin != NULL && json_real_value(margin) <= MARGIN_MIN) || is_tie(scores, i);
        n_expected = fixture_trim(f, expected, n_expected);
        bool is_equal =
            result.n_ids == n_expected && memcmp(result.ids, expected, (size_t)n_expected * sizeof *expected) == 0;
        if (!may_differ && !is_equal) {
            fail_msg("%s: sequence %zu differs: %d ids, first %d, expected %d, first %d", settings, i, result.n_ids,
                     result.ids[0], n_expected, expected[0]);
        }
        if (scores != NULL) {
            double expected_score = json_real_value(json_array_get(scores, i));
            if (!(fabs((double)result.score - expected_score) <= score_tol)) {
                fail_msg("%s: score %zu is %.6f, expected %.6f", settings, i, (double)result.score, expected_score);
            }
        }
        free(expected);
    }
    free(settings);
}
