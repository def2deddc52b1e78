/* tests/test_weights.c: weights read from every kind of file are the numbers that Python reads from it, and the 16-bit
 * formats convert exactly. Broken files are in test_bad_models.c. */
#include "base/file.h"
#include "model/safetensors.h"
#include "model/torch_file.h"
#include "model/weights.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLS_MAX 128

/* Claim: every float16 and bfloat16 value survives the way to float32 and back, and NaN stays NaN. Method: all 65536.
 */
static void small_floats_round_trip(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t h = (uint16_t)bits;
        float f16 = t5_f16_to_f32(h), bf16 = t5_bf16_to_f32(h);
        assert_true(isnan(f16) ? isnan(t5_f16_to_f32(t5_f32_to_f16(f16))) : t5_f32_to_f16(f16) == h);
        assert_true(isnan(bf16) ? isnan(t5_bf16_to_f32(t5_f32_to_bf16(bf16))) : t5_f32_to_bf16(bf16) == h);
    }
    assert_true(t5_f16_to_f32(0x3c00) == 1.0f && t5_f16_to_f32(0xc000) == -2.0f && t5_f16_to_f32(0x7bff) == 65504.0f);
    assert_true(t5_f16_to_f32(0x0001) == 0x1p-24f && isinf(t5_f16_to_f32(0x7c00)) &&
                t5_bf16_to_f32(0x4049) == 3.140625f);
}

static void check_rounding(uint16_t h, float (*widen)(uint16_t), uint16_t (*narrow)(float))
{
    float low = widen(h), high = widen((uint16_t)(h + 1));
    if (isinf(high)) high = 2 * low - widen((uint16_t)(h - 1)); /* the next value if the format went on */
    float middle = (float)(((double)low + high) / 2);
    uint16_t even = h % 2 == 0 ? h : (uint16_t)(h + 1);
    assert_int_equal(narrow(middle), even);
    assert_int_equal(narrow(nextafterf(middle, 0)), h);
    assert_int_equal(narrow(nextafterf(middle, INFINITY)), h + 1);
    assert_int_equal(narrow(-middle), even | 0x8000);
}

/* Claim: conversion to 16 bits rounds to nearest, ties to even, past the largest value to infinity. Method: the middle
 * between every two neighbours, and its two float32 neighbours. */
static void small_floats_round_to_nearest(void **state)
{
    (void)state;
    for (uint32_t h = 1; h < 0x7c00; h++)
        check_rounding((uint16_t)h, t5_f16_to_f32, t5_f32_to_f16);
    for (uint32_t h = 0x80; h < 0x7f7f; h++) /* normal numbers but the largest, whose middle is not a float32 */
        check_rounding((uint16_t)h, t5_bf16_to_f32, t5_f32_to_bf16);
    assert_int_equal(t5_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(t5_f32_to_bf16(0x1.fffffep127f), 0x7f80);
}

typedef struct {
    const char *folder, *format;
    int32_t n_tensors;
    int64_t n_params;
    double checksum; /* sum of x[i] * (i % 7 + 1) over all tensors, computed with numpy */
    t5_dtype dtype;
    int32_t q_rows, q_cols; /* of the first attention's q, whose [1, 2] is: */
    float q_1_2;
} fixture_row;

static const fixture_row fixtures[] = {
    {"byt5", "pytorch", 73, 256128, 3509.451358190947, T5_F32, 64, 48, 0.02419342f},
    {"flan-small-shape", "safetensors", 61, 310528, 6178.473754842766, T5_BF16, 48, 64, 0.03125f},
    {"madlad", "safetensors", 52, 326464, 1170.0132938297988, T5_F32, 128, 48, 0.10936039f},
    {"mt5", "safetensors", 52, 258880, 4462.637996852398, T5_F16, 64, 48, 0.045318604f},
    {"silu-buckets", "safetensors", 51, 178880, 6566.242007634335, T5_F32, 64, 48, 0.02240941f},
    {"t5-v1.0", "safetensors", 47, 160576, 5558.996165255997, T5_F32, 64, 48, 0.04576921f},
    {"t5-v1.1", "safetensors (6 shards)", 66, 242064, 3280.9153864915143, T5_F32, 48, 48, -0.010608534f},
    {"umt5", "pytorch (2 shards)", 57, 425152, 1547.8844153235204, T5_F32, 64, 48, -0.033508413f},
};

static double sum_tensor(const t5_tensor *tensor)
{
    double sum = 0;
    float row[COLS_MAX];
    assert_true(tensor->n_cols <= COLS_MAX);
    for (int64_t i_row = 0; i_row < tensor->n_rows; i_row++) {
        t5_tensor_row_f32(tensor, (int32_t)i_row, row);
        for (int64_t i = 0; i < tensor->n_cols; i++)
            sum += (double)row[i] * (double)((i_row * tensor->n_cols + i) % 7 + 1);
    }
    return sum;
}

static double sum_file(const char *path, bool is_safetensors)
{
    t5_error err = {0};
    const void *map = NULL;
    t5_tensor_list list = {0};
    t5_mapped_file file = {.path = path};
    assert_int_equal(t5_file_map(path, &map, &file.n_bytes, &err), T5_OK);
    file.data = map;
    t5_status status =
        is_safetensors ? t5_safetensors_read(&file, 0, &list, &err) : t5_torch_file_read(&file, 0, &list, &err);
    assert_int_equal(status, T5_OK);
    double sum = 0;
    for (int32_t i = 0; i < list.n_entries; i++) {
        assert_null(list.entries[i].problem);
        sum += sum_tensor(&list.entries[i].tensor);
    }
    t5_tensor_list_deinit(&list);
    t5_file_unmap(map, file.n_bytes);
    return sum;
}

static double sum_folder(const char *dir)
{
    double sum = 0;
    DIR *entries = opendir(dir);
    assert_non_null(entries);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        const char *name = entry->d_name, *dot = strrchr(name, '.');
        bool is_safetensors = strncmp(name, "model", 5) == 0 && dot != NULL && strcmp(dot, ".safetensors") == 0;
        bool is_torch = strncmp(name, "pytorch", 7) == 0 && dot != NULL && strcmp(dot, ".bin") == 0;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, name);
        if (is_safetensors || is_torch) sum += sum_file(path, is_safetensors);
    }
    closedir(entries);
    return sum;
}

/* Claim: all tensors of all fixtures have the values that numpy reads. Method: a position-dependent sum over all of
 * them, one value by hand, and the summary. */
static void fixtures_have_numpys_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < T5_COUNT(fixtures); i++) {
        const fixture_row *row = &fixtures[i];
        char dir[512];
        t5_error err = {0};
        t5_weights *w = NULL;
        t5_weights_summary summary;
        t5_tensor q;
        float values[COLS_MAX];
        snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, row->folder);
        assert_int_equal(t5_weights_open(dir, &w, &err), T5_OK);
        t5_weights_summarize(w, false, &summary);
        assert_string_equal(summary.format, row->format);
        assert_int_equal(summary.n_tensors, row->n_tensors);
        assert_int_equal(summary.n_params, row->n_params);
        assert_int_equal(summary.dtype, row->dtype);
        assert_int_equal(summary.n_bytes, row->n_params * (row->dtype == T5_F32 ? 4 : 2));
        const char *name = "encoder.block.0.layer.0.SelfAttention.q.weight";
        assert_int_equal(t5_weights_get(w, name, row->q_rows, row->q_cols, &q, &err), T5_OK);
        t5_tensor_row_f32(&q, 1, values);
        assert_true(fabsf(values[2] - row->q_1_2) < 1e-7f);
        t5_weights_close(w);
        assert_true(fabs(sum_folder(dir) - row->checksum) < 1e-5);
    }
}

/* Opens a folder that must be good. */
static t5_weights *open_good(const char *dir)
{
    t5_error err = {0};
    t5_weights *w = NULL;
    t5_status status = t5_weights_open(dir, &w, &err);
    if (status != T5_OK) fail_msg("%s", err.text);
    return w;
}

static void expect_get_error(const t5_weights *w, const char *name, int32_t n_rows, int32_t n_cols, const char *text)
{
    t5_error err = {0};
    t5_tensor tensor;
    assert_int_equal(t5_weights_get(w, name, n_rows, n_cols, &tensor, &err), T5_ERR_FORMAT);
    if (strstr(err.text, text) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, text);
}

/* Claim: a tensor that we cannot use does no harm until the model asks for it; errors name tensor, what is there and
 * what is wanted. Method: a file with an int64, a scalar, a 3-D, an empty and a good tensor. */
static void odd_tensors_are_errors_when_asked_for(void **state)
{
    const char *dir = *state;
    safetensors_write(dir, "model.safetensors",
                      "{\"__metadata__\":{\"format\":\"pt\"},"
                      "\"ids\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                      "\"one\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]},"
                      "\"cube\":{\"dtype\":\"F16\",\"shape\":[1,2,2],\"data_offsets\":[20,28]},"
                      "\"none\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[28,28]},"
                      "\"good\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[28,40]}}   ",
                      40);
    t5_weights *w = open_good(dir);
    expect_get_error(w, "ids", 1, 2, "has dtype I64");
    expect_get_error(w, "one", 1, 1, "has 0 dimensions");
    expect_get_error(w, "cube", 2, 2, "has 3 dimensions");
    expect_get_error(w, "none", 1, 4, "has 0 as dimension 0");
    expect_get_error(w, "good", 3, 2, "has shape [2, 3], config.json wants [3, 2]");
    expect_get_error(w, "absent", 3, 2, "\"absent\" is missing");
    assert_null(t5_weights_find(w, "ids"));
    assert_null(t5_weights_find(w, "absent"));
    const t5_tensor *good = t5_weights_find(w, "good");
    assert_non_null(good);
    float row[3];
    t5_tensor_row_f32(good, 1, row); /* bytes 28 + 6 ...: not aligned to anything */
    assert_true(row[0] == t5_bf16_to_f32(0x2322) && row[2] == t5_bf16_to_f32(0x2726));
    t5_weights_close(w);
}

/* Claim: the index decides which shard a tensor comes from. Method: two shards that both hold "a". */
static void index_chooses_the_shard(void **state)
{
    const char *dir = *state;
    const char *header = "{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                         "\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,4]}}";
    safetensors_write(dir, "x.safetensors", header, 4);
    safetensors_write(dir, "y.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    file_write_text(dir, "model.safetensors.index.json",
                    "{\"metadata\":{},\"weight_map\":{\"a\":\"y.safetensors\",\"b\":\"x.safetensors\"}}");
    t5_weights *w = open_good(dir);
    t5_weights_summary summary;
    t5_weights_summarize(w, false, &summary);
    assert_int_equal(summary.n_tensors, 2);
    assert_string_equal(summary.format, "safetensors (2 shards)");
    assert_int_equal(t5_weights_find(w, "a")->dtype, T5_F32);
    assert_int_equal(t5_weights_find(w, "b")->dtype, T5_F16);
    t5_weights_close(w);
}

static const pickle_tensor torch_tensors[] = {
    {"whole", "FloatStorage", "0", 6, 0, 2, 3, 3, 1},      {"same", "FloatStorage", "0", 6, 0, 2, 3, 3, 1},
    {"second_row", "FloatStorage", "0", 6, 3, 1, 3, 3, 1}, {"turned", "FloatStorage", "0", 6, 0, 3, 2, 1, 3},
    {"half", "HalfStorage", "1", 2, 0, 1, 2, 7, 1},        {"ids", "LongStorage", "2", 1, 0, 1, 1, 1, 1},
    {"brain", "BFloat16Storage", "3", 2, 0, 2, 1, 1, 9},
};
static const float torch_values[] = {1, 2, 3, 4, 5, 6};
static const uint16_t torch_half[] = {0x3c00, 0x4000}, torch_brain[] = {0x3f80, 0x4000};
static const int64_t torch_ids[] = {7};

/* A pickle with everything that PyTorch may write around the tensors. */
static bytes torch_pickle(int is_stream)
{
    bytes p = {0};
    pickle_begin(&p);
    for (size_t i = 0; i < T5_COUNT(torch_tensors); i++)
        pickle_add_tensor(&p, &torch_tensors[i], is_stream);
    pickle_add_text(&p, "scale"); /* a number, no tensor */
    bytes_add(&p, "G\0\0\0\0\0\0\0\0", 9);
    bytes_add_text(&p, "u}"); /* and the attribute _metadata: {"_metadata": OrderedDict((("", {"version": 1}),))} */
    pickle_add_text(&p, "_metadata");
    bytes_add_text(&p, "ccollections\nOrderedDict\n)R(");
    pickle_add_text(&p, "");
    bytes_add_text(&p, "}");
    pickle_add_text(&p, "version");
    bytes_add_text(&p, "K\1susb.");
    return p;
}

static void expect_row(const t5_weights *w, const char *name, int32_t i_row, float first, float last)
{
    float row[COLS_MAX];
    const t5_tensor *tensor = t5_weights_find(w, name);
    assert_non_null(tensor);
    t5_tensor_row_f32(tensor, i_row, row);
    assert_true(row[0] == first && row[tensor->n_cols - 1] == last);
}

static void expect_torch_tensors(const char *dir)
{
    t5_weights *w = open_good(dir);
    expect_row(w, "whole", 0, 1, 3);
    expect_row(w, "whole", 1, 4, 6);
    expect_row(w, "second_row", 0, 4, 6);
    expect_row(w, "half", 0, 1, 2);
    expect_row(w, "brain", 1, 2, 2);
    assert_ptr_equal(t5_weights_find(w, "whole")->data, t5_weights_find(w, "same")->data);
    assert_null(t5_weights_find(w, "scale"));
    expect_get_error(w, "turned", 3, 2, "is not contiguous");
    expect_get_error(w, "ids", 1, 1, "has dtype int64");
    t5_weights_close(w);
}

/* Claim: views, shared storages, attributes and other types in a zip file are read; so are zip64 records, data
 * descriptors and padding. Method: the same tensors in each dialect. */
static void torch_zip_dialects_are_read(void **state)
{
    static const zip_writer dialects[] = {
        {.flags = 0}, {.flags = 8}, {.uses_zip64 = 1}, {.flags = 8 | 2048, .uses_zip64 = 1, .extra_bytes = 61}};
    for (size_t i = 0; i < T5_COUNT(dialects); i++) {
        zip_writer zip = dialects[i];
        bytes p = torch_pickle(0);
        zip_add(&zip, "archive/data.pkl", p.at, p.n);
        zip_add(&zip, "archive/byteorder", "little", 6);
        zip_add(&zip, "archive/data/0", torch_values, sizeof torch_values);
        zip_add(&zip, "archive/data/1", torch_half, sizeof torch_half);
        zip_add(&zip, "archive/data/2", torch_ids, sizeof torch_ids);
        zip_add(&zip, "archive/data/3", torch_brain, sizeof torch_brain);
        zip_add(&zip, "archive/version", "3\n", 2);
        zip_write(&zip, *state, "pytorch_model.bin");
        bytes_free(&p);
        expect_torch_tensors(*state);
    }
}

static void add_stream_storage(bytes *b, uint64_t n_elements, const void *data, size_t n_bytes)
{
    bytes_add_number(b, n_elements, 8);
    bytes_add(b, data, n_bytes);
}

/* Claim: the stream of PyTorch before 1.6 is read. Method: the same tensors, storages in the order of the key list. */
static void torch_stream_is_read(void **state)
{
    bytes b = {0}, p = torch_pickle(1);
    bytes_add(&b, "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.", 15);
    bytes_add_text(&b, "\x80\x02M\xe9\x03.");
    bytes_add_text(&b, "\x80\x02}(");
    pickle_add_text(&b, "little_endian");
    bytes_add_text(&b, "\x88u.");
    bytes_add(&b, p.at, p.n);
    bytes_add_text(&b, "\x80\x02](");
    for (const char *key = "2013"; *key != '\0'; key++)
        pickle_add_text(&b, (char[]){*key, '\0'});
    bytes_add_text(&b, "e.");
    add_stream_storage(&b, 1, torch_ids, sizeof torch_ids);
    add_stream_storage(&b, 6, torch_values, sizeof torch_values);
    add_stream_storage(&b, 2, torch_half, sizeof torch_half);
    add_stream_storage(&b, 2, torch_brain, sizeof torch_brain);
    file_write(*state, "pytorch_model.bin", b.at, b.n);
    bytes_free(&p);
    bytes_free(&b);
    expect_torch_tensors(*state);
}

/* Claim: safetensors win over pytorch_model.bin. Method: a folder with both, of different formats. */
static void safetensors_come_first(void **state)
{
    const char *dir = *state;
    file_write_text(dir, "pytorch_model.bin", "broken");
    safetensors_write(dir, "model.safetensors", "{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2);
    t5_weights *w = open_good(dir);
    assert_non_null(t5_weights_find(w, "a"));
    t5_weights_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_floats_round_trip),
        cmocka_unit_test(small_floats_round_to_nearest),
        cmocka_unit_test(fixtures_have_numpys_values),
        IN_FOLDER(odd_tensors_are_errors_when_asked_for),
        IN_FOLDER(index_chooses_the_shard),
        IN_FOLDER(torch_zip_dialects_are_read),
        IN_FOLDER(torch_stream_is_read),
        IN_FOLDER(safetensors_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
