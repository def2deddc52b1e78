/* tests/test_detect_accuracy.c: how often the language of a text is told, for texts that nothing was tuned on. Prints
 * the table of docs/performance.md.
 *
 * Method: tests/detect/sentences.tsv, 40 short and 40 long texts in each of its languages (its README says whose they
 * are), among all languages that LibreTranslate serves and three of their neighbours. pt and pt-BR count as one. */
#include "base/error.h"
#include "text/detect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LINE_BYTES 4096
#define LANGUAGES_MAX 64
#define BINS 5 /* of confidence: 0 to 20, ... */
/* Floors, a little below what is reached. */
#define SHORT_MIN 77.0
#define LONG_MIN 98.5
#define LONG_MIN_EACH 90.0
#define SURE_MIN 90.0 /* of the texts with a confidence of 80 and more */

/* What LibreTranslate has models for, and the neighbours of some of them. */
static const char *const served[] = {"en", "sq", "ar", "az",    "eu", "bn", "bg", "ca", "zh-Hans", "zh-Hant", "cs",
                                     "da", "nl", "eo", "et",    "fi", "fr", "gl", "de", "el",      "he",      "hi",
                                     "hu", "id", "ga", "it",    "ja", "ko", "ky", "lv", "lt",      "ms",      "nb",
                                     "fa", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "es",      "sv",      "tl",
                                     "th", "tr", "uk", "ur",    "vi", "hr", "sr", "mr"};

typedef struct {
    char code[16];
    int n[2], n_right[2]; /* short, long */
} language_row;

typedef struct {
    language_row rows[LANGUAGES_MAX];
    int n_rows;
    int n[2][BINS], n_right[2][BINS]; /* by confidence */
    double confidence[2][BINS];       /* sums */
} table;

static bool is_same(const char *found, const char *wanted)
{
    return strcmp(found, wanted) == 0 || (strncmp(found, "pt", 2) == 0 && strncmp(wanted, "pt", 2) == 0);
}

static language_row *row_of(table *t, const char *code)
{
    for (int i = 0; i < t->n_rows; i++)
        if (strcmp(t->rows[i].code, code) == 0) return &t->rows[i];
    assert_true(t->n_rows < LANGUAGES_MAX);
    snprintf(t->rows[t->n_rows].code, sizeof t->rows[0].code, "%s", code);
    return &t->rows[t->n_rows++];
}

static void add_text(table *t, const char *code, bool is_long, const char *text)
{
    t5_detected found[T5_DETECTED_MAX];
    language_row *row = row_of(t, code);
    t5_detect(text, strlen(text), served, T5_COUNT(served), found);
    const bool is_right = is_same(found[0].code, code);
    const int bin = found[0].confidence >= 100 ? BINS - 1 : (int)(found[0].confidence * BINS / 100);
    if (!is_right && getenv("T5_TEST_SHOW") != NULL) /* which ones are wrong */
        printf("%s is called %s (%.1f): %s\n", code, found[0].code, found[0].confidence, text);
    row->n[is_long]++;
    row->n_right[is_long] += is_right;
    t->n[is_long][bin]++;
    t->n_right[is_long][bin] += is_right;
    t->confidence[is_long][bin] += found[0].confidence;
}

static void read_table(const char *path, table *t)
{
    char line[LINE_BYTES];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *code = strtok(line, "\t\n"), *kind = strtok(NULL, "\t\n"), *text = strtok(NULL, "\t\n");
        assert_non_null(text);
        add_text(t, code, strcmp(kind, "long") == 0, text);
    }
    fclose(file);
}

static double percent(int n_right, int n)
{
    return n > 0 ? 100.0 * n_right / n : 0;
}

/* Claim: long texts are told nearly always, short ones mostly, in every language; and confidence says how often. */
static void held_out_texts_are_told(void **state)
{
    static table t;
    const char *path = getenv("T5_TEST_DETECT_FILE");
    int n[2] = {0}, n_right[2] = {0};
    (void)state;
    read_table(path != NULL ? path : T5_SOURCE_DIR "/tests/detect/sentences.tsv", &t);
    printf("| language | short | long |\n| --- | --- | --- |\n");
    for (int i = 0; i < t.n_rows; i++) {
        const language_row *row = &t.rows[i];
        printf("| %s | %.1f %% | %.1f %% |\n", row->code, percent(row->n_right[0], row->n[0]),
               percent(row->n_right[1], row->n[1]));
        for (int k = 0; k < 2; k++) {
            n[k] += row->n[k];
            n_right[k] += row->n_right[k];
        }
    }
    printf("| all | %.1f %% | %.1f %% |\n", percent(n_right[0], n[0]), percent(n_right[1], n[1]));
    for (int k = 0; k < 2; k++)
        for (int bin = 0; bin < BINS; bin++)
            printf("%s, confidence %d to %d: %.1f on average, %.1f %% of %d right\n", k ? "long" : "short", 20 * bin,
                   20 * bin + 20, t.n[k][bin] > 0 ? t.confidence[k][bin] / t.n[k][bin] : 0,
                   percent(t.n_right[k][bin], t.n[k][bin]), t.n[k][bin]);
    assert_true(t.n_rows >= 20);
    assert_true(percent(n_right[0], n[0]) >= SHORT_MIN);
    assert_true(percent(n_right[1], n[1]) >= LONG_MIN);
    for (int i = 0; i < t.n_rows; i++)
        assert_true(percent(t.rows[i].n_right[1], t.rows[i].n[1]) >= LONG_MIN_EACH);
    for (int k = 0; k < 2; k++)
        assert_true(percent(t.n_right[k][BINS - 1], t.n[k][BINS - 1]) >= SURE_MIN);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(held_out_texts_are_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
