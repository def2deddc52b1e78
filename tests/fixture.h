/* tests/fixture.h: one folder of tests/fixtures, opened: its model on a backend and the expected results of Hugging
 * Face. */
#pragma once
#include "model/batch.h"

#include <jansson.h>

typedef struct {
    char dir[512];
    char expected_dir[64]; /* temporary: expected.safetensors under the name that t5_weights_open() looks for */
    t5_backend *backend;   /* owned */
    t5_model *model;
    t5_batch *batch;
    t5_weights *expected;
    json_t *json; /* expected.json */
} fixture;

/* Opens tests/fixtures/<name> on `backend`, which the fixture takes over. Fails the running cmocka test on any error.
 */
void fixture_open(fixture *f, const char *name, t5_backend *backend);
/* The same with a model that was made of the fixture's, in `model_dir`. */
void fixture_open_at(fixture *f, const char *name, const char *model_dir, t5_backend *backend);
void fixture_close(fixture *f);
/* cases[i] */
const json_t *fixture_case(const fixture *f, size_t i);
size_t fixture_n_cases(const fixture *f);
/* A JSON array of integers as a malloc'ed array. */
int32_t *fixture_ids(const json_t *array, int32_t *out_n);
/* Largest |a - b| over largest |b|; infinity when any a is not finite. */
double max_rel_error(const float *a, const float *b, size_t n);
/* The tensor `<i_case>.<what>` of expected.safetensors as malloc'ed float32. */
float *fixture_expected(const fixture *f, size_t i_case, const char *what, int32_t *out_rows, int32_t *out_cols);
/* Length of an expected sequence without the filling after its eos: beams shorter than the longest are filled with the
 * pad id, or with eos when the pad id is 0 (transformers: output_fill_value = pad_token_id or eos_token_id). */
int32_t fixture_trim(const fixture *f, const int32_t *ids, int32_t n);
/* Compares a done slot with one entry of cases[].generate: ids where the margin allows, n-best order, scores to
 * `score_tol`. */
void fixture_check_results(const fixture *f, int32_t slot, const json_t *generate, double score_tol);
/* The decoding options of one entry of cases[].generate. */
void fixture_decoding(const json_t *generate, t5_decoding *out);
