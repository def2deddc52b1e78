/* tests/test_pieces.c: the text of ids from their pieces, against SentencePiece's own. */
#include "base/file.h"
#include "spm_builder.h"
#include "tokenizer/pieces.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define IDS_MAX 12
#define N_RANDOM 4000
#define UNITS 256

static uint32_t seed;

static int32_t below(int32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int32_t)((uint64_t)(seed >> 4) * (uint64_t)n >> 28);
}

/* An ordinary piece: any, one of the first, which are the most frequent, or the lone word mark. */
static int32_t random_id(const t5_pieces *p)
{
    for (;;) {
        const int32_t n = t5_spm_n_pieces(p->spm), choice = below(8);
        const int32_t id = choice == 0 ? t5_spm_find(p->spm, "\xE2\x96\x81") : below(choice < 4 && n > 400 ? 400 : n);
        if (id < 0) continue;
        const t5_piece_type type = t5_pieces_type(p, id);
        assert_int_equal(type, t5_spm_type(p->spm, id));
        if (type != T5_PIECE_UNKNOWN && type != T5_PIECE_CONTROL) return id;
    }
}

static void expect_same(const t5_pieces *p, const int32_t *ids, size_t n_ids)
{
    char *text = NULL, *want = NULL;
    size_t n_bytes = 0, n_want = 0;
    t5_error err = {0};
    assert_int_equal(t5_pieces_decode(p, ids, n_ids, &text, &n_bytes, &err), T5_OK);
    assert_int_equal(t5_spm_decode(p->spm, ids, n_ids, &want, &n_want, &err), T5_OK);
    assert_int_equal(n_bytes, n_want);
    assert_string_equal(text, want);
    free(text);
    free(want);
}

/* Random ids of a model; *out_mapped: whether it maps texts. */
static void check_model(const void *bytes, size_t n_bytes, bool *out_mapped)
{
    t5_spm *spm = NULL;
    t5_pieces pieces;
    int32_t ids[IDS_MAX];
    t5_error err = {0};
    assert_int_equal(t5_spm_check(bytes, n_bytes, "x", &err), T5_OK);
    assert_int_equal(t5_spm_open(bytes, n_bytes, "x", &spm, &err), T5_OK);
    *out_mapped = t5_spm_maps_text(bytes, n_bytes);
    assert_int_equal(t5_pieces_init(&pieces, spm, *out_mapped, &err), T5_OK);
    for (int32_t i = 0; i < N_RANDOM; i++) {
        const int32_t n_ids = below(IDS_MAX + 1);
        for (int32_t k = 0; k < n_ids; k++)
            ids[k] = random_id(&pieces);
        expect_same(&pieces, ids, (size_t)n_ids);
    }
    t5_pieces_deinit(&pieces);
    t5_spm_close(spm);
}

/* Claim: any ordinary ids of every family give SentencePiece's text. Method: random ones, many that are no text by
 * themselves, of each fixture's model and the bundled one. */
static void families_read_the_same(void **state)
{
    static const char *const folders[] = {"tests/fixtures/t5-v1.0", "tests/fixtures/t5-v1.1", "tests/fixtures/mt5",
                                          "tests/fixtures/umt5",    "tests/fixtures/madlad",  "models/t5-tatoeba"};
    (void)state;
    for (size_t i = 0; i < T5_COUNT(folders); i++) {
        char path[512];
        const void *file = NULL;
        size_t n_bytes = 0;
        bool is_mapped = true;
        t5_error err = {0};
        snprintf(path, sizeof path, T5_SOURCE_DIR "/%s/spiece.model", folders[i]);
        assert_int_equal(t5_file_map(path, &file, &n_bytes, &err), T5_OK);
        check_model(file, n_bytes, &is_mapped);
        assert_false(is_mapped);
        t5_file_unmap(file, n_bytes);
    }
}

/* A character map: u32 size of its trie, the trie, which knows "a", and the text "x" for it. */
static void put_map(spm_bytes *out)
{
    const uint32_t trie_bytes = UNITS * 4;
    uint32_t units[UNITS];
    memset(units, 0xFF, sizeof units);
    units[0] = 2u << 10;
    units[2 ^ 'a'] = 1u << 10 | 1u << 8 | 'a';
    units[2 ^ 'a' ^ 1] = 1u << 31;
    spm_put(out, &trie_bytes, 4);
    spm_put(out, units, sizeof units);
    spm_put(out, "x", 2);
}

/* Claim: so do models with settings that no family has. Method: every mix of word mark in front or not, white space
 * thinned or not, and a character map for decoded texts; user-defined and unused pieces. */
static void settings_read_the_same(void **state)
{
    (void)state;
    for (unsigned mix = 0; mix < 8; mix++) {
        spm_bytes b = {0}, normalizer = {0}, map = {0}, denormalizer = {0};
        bool is_mapped = false;
        spm_put_base(&b);
        spm_put_piece(&b, "\xE2\x96\x81\xE2\x96\x81", 6, -3, 4);
        spm_put_piece(&b,
                      "a\xE2\x96\x81"
                      "b",
                      5, -3, 1);
        spm_put_piece(&b, "\xE2\x96\x81z", 4, -3, 5);
        spm_put_piece(&b, "\xE2\x96\x82", 3, -3, 1); /* the mark's neighbour */
        spm_put_int(&normalizer, 3, mix & 1);
        spm_put_int(&normalizer, 4, mix >> 1 & 1);
        spm_put_bytes(&b, 3, normalizer.bytes, normalizer.n_bytes);
        put_map(&map);
        if ((mix & 4) != 0) spm_put_bytes(&denormalizer, 2, map.bytes, map.n_bytes);
        spm_put_bytes(&b, 5, denormalizer.bytes, denormalizer.n_bytes);
        check_model(b.bytes, b.n_bytes, &is_mapped);
        assert_int_equal(is_mapped, (mix & 4) != 0);
        free(b.bytes);
        free(normalizer.bytes);
        free(map.bytes);
        free(denormalizer.bytes);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_read_the_same),
        cmocka_unit_test(settings_read_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
