/* tests/test_spm_check.c: broken and hostile SentencePiece models are errors, and what passes the check is safe. */
#include "base/file.h"
#include "spm_builder.h"
#include "tokenizer/spm_wrapper.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define BUNDLED T5_SOURCE_DIR "/models/t5-tatoeba/spiece.model"
#define MUTANTS 4000
#define LARGE_MUTANTS 40

/* Checks a model and, when it passes, opens it and uses it as the tokenizer would. */
static t5_status use_model(const void *bytes, size_t n_bytes, t5_error *err)
{
    static const char text[] = "abc \xC3\xA9 </s> <extra_id_0> \xF0\x9F\x99\x82 ab";
    t5_status status = T5_OK;
    t5_spm *spm = NULL;
    void *guarded = NULL;
    size_t guarded_bytes = 0, n_ids = 0, out_bytes = 0;
    int32_t *ids = NULL;
    char *out_text = NULL;

    T5_TRY(t5_spm_check(bytes, n_bytes, "test.model", err));
    T5_TRY(t5_spm_guard(bytes, n_bytes, &guarded, &guarded_bytes, err));
    T5_TRY(t5_spm_open(guarded, guarded_bytes, "test.model", &spm, err));
    T5_TRY(t5_spm_encode(spm, text, sizeof text - 1, 1, &ids, &n_ids, err));
    T5_TRY(t5_spm_decode(spm, ids, n_ids, &out_text, &out_bytes, err));
    for (int32_t id = 0; id < t5_spm_n_pieces(spm); id++)
        assert_non_null(t5_spm_piece(spm, id));
out:
    free(out_text);
    free(ids);
    t5_spm_close(spm);
    free(guarded);
    return status;
}

static void expect_error(const char *what, const spm_bytes *model, const char *part)
{
    t5_error err = {0};
    t5_status status = use_model(model->bytes, model->n_bytes, &err);
    if (status != T5_ERR_FORMAT || strstr(err.text, part) == NULL || strchr(err.text, '\n') != NULL)
        fail_msg("%s: status %d, \"%s\" has no \"%s\"", what, (int)status, err.text, part);
}

static void put_long_piece(spm_bytes *b)
{
    enum { LONG_BYTES = 400000 };
    char *piece = malloc(LONG_BYTES);
    assert_non_null(piece);
    memset(piece, 'a', LONG_BYTES);
    spm_put_piece(b, piece, LONG_BYTES, -1, 1);
    free(piece);
}

/* Claim: a model that works stays as it is, and each of the crafts that crash the library is an error with a reason.
 * Method: one bad piece after good ones. */
static void bad_pieces_are_refused(void **state)
{
    static const struct {
        const char *what, *piece;
        size_t n_bytes;
        float score;
        uint64_t type;
        const char *part;
    } cases[] = {
        {"empty piece", "", 0, -1, 1, "piece 6"},
        {"piece of NUL", "\0\0", 2, -1, 1, "not text"},
        {"NUL inside", "a\0b", 3, -1, 1, "not text"},
        {"broken UTF-8", "\xC3", 1, -1, 1, "not text"},
        {"score NaN", "d", 1, NAN, 1, "score"},
        {"score infinite", "d", 1, INFINITY, 1, "score"},
        {"score absurd", "d", 1, 1e30F, 1, "score"},
        {"type 0", "d", 1, -1, 0, "type"},
        {"type 7", "d", 1, -1, 7, "type"},
        {"type 2^63", "d", 1, -1, (uint64_t)1 << 63, "type"},
        {"second unknown", "<x>", 3, 0, 2, "2 unknown"},
        {"same piece twice", "a", 1, -1, 1, "SentencePiece"},
        {"byte without fallback", "<0x00>", 6, 0, 6, "SentencePiece"},
    };
    spm_bytes good = {0}, long_piece = {0};
    t5_error err = {0};

    (void)state;
    spm_put_base(&good);
    assert_int_equal(use_model(good.bytes, good.n_bytes, &err), T5_OK);
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        spm_bytes b = {0};
        spm_put_base(&b);
        spm_put_piece(&b, cases[i].piece, cases[i].n_bytes, cases[i].score, cases[i].type);
        expect_error(cases[i].what, &b, cases[i].part);
        free(b.bytes);
    }
    spm_put_base(&long_piece);
    put_long_piece(&long_piece);
    expect_error("piece of 400 kB", &long_piece, "400000 bytes");
    free(long_piece.bytes);
    free(good.bytes);
}

/* Claim: a file that is no model is an error. Method: no pieces, wrong wire types, wrong kind, doubled parts, and each
 * length of a truncated model. */
static void bad_files_are_refused(void **state)
{
    spm_bytes b = {0}, cut;
    t5_error err = {0};

    (void)state;
    assert_int_equal(t5_spm_check("", 0, "x", &err), T5_ERR_FORMAT);
    spm_put(&b, "{\"not\": \"a model\"}", 18);
    expect_error("JSON", &b, "test.model");
    b.n_bytes = 0;
    spm_put_piece(&b, "a", 1, -1, 1);
    expect_error("no unknown piece", &b, "0 unknown");
    b.n_bytes = 0;
    spm_put_piece(&b, "<unk>", 5, 0, 2);
    expect_error("unknown only", &b, "no pieces");
    b.n_bytes = 0;
    spm_put_base(&b);
    spm_put_int(&b, 1, 5);
    expect_error("piece as a number", &b, "not a SentencePiece model");
    b.n_bytes = 0;
    spm_put_base(&b);
    spm_put_bytes(&b, 2, "\x18\x03", 2);
    expect_error("word model", &b, "neither");
    b.n_bytes = 0;
    spm_put_base(&b);
    spm_put_bytes(&b, 2, "\x18\x01", 2);
    spm_put_bytes(&b, 2, "\x18\x01", 2);
    expect_error("two trainers", &b, "twice");
    b.n_bytes = 0;
    spm_put_base(&b);
    spm_put_bytes(&b, 2, "\x98\x02\x01", 3);
    expect_error("byte fallback without bytes", &b, "SentencePiece");
    b.n_bytes = 0;
    spm_put_base(&b);
    for (cut = b; cut.n_bytes > 0; cut.n_bytes--) { /* at a border between pieces it may be a model again */
        t5_error cut_err = {0};
        use_model(cut.bytes, cut.n_bytes, &cut_err);
    }
    cut.n_bytes = b.n_bytes - 1;
    expect_error("last byte missing", &cut, "cut short");
    free(b.bytes);
}

/* One block of a double-array trie: units that no label reaches, then what the test sets. */
#define UNITS 256
static void put_map(spm_bytes *b, const uint32_t units[UNITS], size_t n_units, const char *texts, size_t n_texts)
{
    spm_bytes map = {0}, normalizer = {0};
    uint32_t trie_bytes = (uint32_t)(n_units * 4);
    b->n_bytes = 0;
    spm_put(&map, &trie_bytes, 4);
    spm_put(&map, units, n_units * 4);
    spm_put(&map, texts, n_texts);
    spm_put_bytes(&normalizer, 2, map.bytes, map.n_bytes);
    spm_put_base(b);
    spm_put_bytes(b, 3, normalizer.bytes, normalizer.n_bytes);
    free(map.bytes);
    free(normalizer.bytes);
}

static uint32_t unit(uint32_t offset, uint32_t label, bool has_leaf)
{
    return offset << 10 | (uint32_t)has_leaf << 8 | label;
}

/* Claim: a character map is followed only where it is whole. Method: tries of one block with one fault each; the first,
 * "a" -> "x", has none. Unit p's children are at p ^ offset ^ byte. */
static void bad_maps_are_refused(void **state)
{
    spm_bytes b = {0};
    uint32_t units[UNITS];
    t5_error err = {0};

    (void)state;
    memset(units, 0xFF, sizeof units); /* leaves: no label matches */
    units[0] = unit(2, 0, false);
    units[2 ^ 'a'] = unit(1, 'a', true);
    units[2 ^ 'a' ^ 1] = 1u << 31; /* value 0 */
    put_map(&b, units, UNITS, "x", 2);
    if (use_model(b.bytes, b.n_bytes, &err) != T5_OK) fail_msg("%s", err.text);

    put_map(&b, units, UNITS, "x", 1);
    expect_error("text without end", &b, "texts of the character map");
    put_map(&b, units, UNITS, "\xFF", 2);
    expect_error("text not UTF-8", &b, "texts of the character map");
    put_map(&b, units, UNITS, "", 0);
    expect_error("no texts", &b, "claims a trie");
    put_map(&b, units, UNITS - 1, "x", 2);
    expect_error("part of a block", &b, "claims a trie");
    units[2 ^ 'a' ^ 1] = 1u << 31 | 2;
    put_map(&b, units, UNITS, "x", 2);
    expect_error("value past the texts", &b, "not there");
    units[2 ^ 'a'] = unit(UNITS, 'a', true);
    put_map(&b, units, UNITS, "x", 2);
    expect_error("offset past the trie", &b, "outside itself");
    free(b.bytes);
}

/* Claim: no text finds more keys at once than the library has room for, 32. Method: chains of 32 and of 33 keys, each
 * one byte longer than the last; node k stands at 2 k + 2 with its value beside it. */
static void nested_keys_are_bounded(void **state)
{
    spm_bytes b = {0};
    uint32_t units[UNITS];

    (void)state;
    for (uint32_t n_keys = 32; n_keys <= 33; n_keys++) {
        t5_error err = {0};
        memset(units, 0xFF, sizeof units);
        units[0] = unit(3, 0, false);
        for (uint32_t k = 1; k <= n_keys; k++) {
            units[2 * k + 2] = unit(1, (2 * k + 1) ^ (2 * k + 2), true);
            units[2 * k + 3] = 1u << 31;
        }
        put_map(&b, units, UNITS, "x", 2);
        if (n_keys == 32)
            assert_int_equal(use_model(b.bytes, b.n_bytes, &err), T5_OK);
        else
            expect_error("33 nested keys", &b, "over 32 keys");
    }
    free(b.bytes);
}

/* Claim: a trie whose walk never ends is refused. Method: a unit that is its own child by byte 'a'. */
static void endless_map_is_refused(void **state)
{
    spm_bytes b = {0};
    uint32_t units[UNITS];

    (void)state;
    memset(units, 0xFF, sizeof units);
    units[0] = unit(2, 0, false);
    units[2 ^ 'a'] = unit('a', 'a', false);
    put_map(&b, units, UNITS, "x", 2);
    expect_error("endless walk", &b, "over 200 bytes");
    free(b.bytes);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* Changes one to four places: a byte, a length, or the end of the file. */
static size_t mutate(unsigned char *bytes, size_t n_bytes, uint32_t *seed)
{
    for (uint32_t i = next_random(seed) % 4 + 1; i > 0; i--) {
        size_t pos = next_random(seed) % n_bytes;
        switch (next_random(seed) % 4) {
        case 0:
            bytes[pos] ^= (unsigned char)(1u << next_random(seed) % 8);
            break;
        case 1:
            bytes[pos] = (unsigned char)next_random(seed);
            break;
        case 2:
            bytes[pos] = 0xFF;
            break;
        default:
            if (next_random(seed) % 8 == 0 && pos > 0) n_bytes = pos;
        }
    }
    return n_bytes;
}

static int count_refused(const spm_bytes *model, int n_mutants, uint32_t seed)
{
    int n_refused = 0;
    unsigned char *mutant = malloc(model->n_bytes);
    assert_non_null(mutant);
    for (int i = 0; i < n_mutants; i++) {
        t5_error err = {0};
        memcpy(mutant, model->bytes, model->n_bytes);
        size_t n_bytes = mutate(mutant, model->n_bytes, &seed);
        t5_status status = use_model(mutant, n_bytes, &err);
        assert_true(status == T5_OK || status == T5_ERR_FORMAT || status == T5_ERR_ARG);
        n_refused += status != T5_OK;
    }
    free(mutant);
    return n_refused;
}

/* Claim: no damage to a file brings the process down. Method: mutants of a small model with a map, and of a real one.
 */
static void mutants_are_safe(void **state)
{
    spm_bytes small = {0}, large = {0};
    uint32_t units[UNITS];
    const void *file = NULL;
    t5_error err = {0};

    (void)state;
    memset(units, 0xFF, sizeof units);
    units[0] = unit(2, 0, false);
    units[2 ^ 'a'] = unit(1, 'a', true);
    units[2 ^ 'a' ^ 1] = 1u << 31;
    put_map(&small, units, UNITS, "x", 2);
    spm_put_piece(&small, "<extra_id_0>", 12, 0, 4);
    int n_small = count_refused(&small, MUTANTS, 1);
    assert_int_equal(t5_file_map(BUNDLED, &file, &large.n_bytes, &err), T5_OK);
    large.bytes = (unsigned char *)(uintptr_t)file;
    int n_large = count_refused(&large, LARGE_MUTANTS, 2);
    printf("mutants: %d of %d small and %d of %d large ones refused, no crash\n", n_small, MUTANTS, n_large,
           LARGE_MUTANTS);
    assert_in_range(n_small, 100, MUTANTS - 100);
    t5_file_unmap(file, large.n_bytes);
    free(small.bytes);
}

/* Claim: pieces with special names are never found in a text. Method: a model where they are user-defined, as mT5's. */
static void special_pieces_are_guarded(void **state)
{
    spm_bytes b = {0};
    t5_error err = {0};
    t5_spm *spm = NULL;
    void *guarded = NULL;
    size_t guarded_bytes = 0, n_ids = 0;
    int32_t *ids = NULL;

    (void)state;
    spm_put_base(&b);
    spm_put_piece(&b, "<extra_id_0>", 12, 0, 4);
    spm_put_piece(&b, "\xE2\x96\x81<extra_id_17>", 16, 0, 4);
    spm_put_piece(&b, "<pad>", 5, 0, 1);
    spm_put_piece(&b, "<2de>", 5, 0, 4);
    assert_int_equal(t5_spm_guard(b.bytes, b.n_bytes, &guarded, &guarded_bytes, &err), T5_OK);
    assert_int_equal(t5_spm_open(guarded, guarded_bytes, "x", &spm, &err), T5_OK);
    assert_int_equal(t5_spm_type(spm, 6), T5_PIECE_CONTROL);
    assert_int_equal(t5_spm_find(spm, "<extra_id_0>"), 6);
    static const char text[] = "a<extra_id_0> <extra_id_17> <pad><2de>";
    assert_int_equal(t5_spm_encode(spm, text, sizeof text - 1, 0, &ids, &n_ids, &err), T5_OK);
    for (size_t i = 0; i < n_ids; i++)
        assert_true(ids[i] < 6 || ids[i] == 9);
    assert_int_equal(ids[n_ids - 1], 9); /* a language tag is a piece like any other */
    free(ids);
    t5_spm_close(spm);
    free(guarded);
    free(b.bytes);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_pieces_are_refused),     cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(bad_maps_are_refused),       cmocka_unit_test(endless_map_is_refused),
        cmocka_unit_test(nested_keys_are_bounded),    cmocka_unit_test(mutants_are_safe),
        cmocka_unit_test(special_pieces_are_guarded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
