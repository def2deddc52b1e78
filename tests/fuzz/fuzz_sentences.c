/* tests/fuzz/fuzz_sentences.c: any text, split, its placeholders set apart, and cut; the first two bytes choose how.
 * The spans are the text at each step, and placeholders are walked through in order. */
#include "base/assert.h"
#include "base/utf8.h"
#include "text/placeholders.h"
#include "text/sentences.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check_spans(const t5_sentences *s, size_t n_bytes)
{
    size_t pos = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        T5_ASSERT(s->spans[i].offset == pos && s->spans[i].n_bytes > 0);
        T5_ASSERT(s->spans[i].is_text || !s->spans[i].is_part);
        pos += s->spans[i].n_bytes;
    }
    T5_ASSERT(pos == n_bytes);
}

static void check_placeholders(const char *text, size_t n_bytes)
{
    t5_placeholder p = {0};
    size_t end = 0;
    while (t5_placeholder_next(text, n_bytes, end, &p)) {
        T5_ASSERT(p.offset >= end && p.n_bytes > 0 && p.n_bytes <= n_bytes - p.offset);
        T5_ASSERT(t5_utf8_is_valid(text + p.offset, p.n_bytes));
        end = p.offset + p.n_bytes;
    }
}

static bool fits(const char *part, size_t n_bytes, void *ctx)
{
    return t5_utf8_count(part, n_bytes) <= *(const size_t *)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char *const languages[] = {"en", "de", "ja", "ru"};
    const char *text = (const char *)data + 2;
    t5_error err = {0};
    t5_sentences s;
    if (n_bytes < 2 || !t5_utf8_is_valid(text, n_bytes - 2)) return 0;
    size_t codes_max = 1 + data[1];
    n_bytes -= 2;
    check_placeholders(text, n_bytes);
    T5_ASSERT(t5_placeholders_agree(text, n_bytes, text, n_bytes));
    const t5_split how = (t5_split)(data[0] % 3);
    T5_ASSERT(t5_sentences_split(text, n_bytes, languages[data[0] >> 6], how, &s, &err) == T5_OK);
    check_spans(&s, n_bytes);
    if (data[0] & 4) T5_ASSERT(t5_sentences_set_apart(text, NULL, NULL, &s, &err) == T5_OK);
    check_spans(&s, n_bytes);
    T5_ASSERT(t5_sentences_cut(text, fits, &codes_max, &s, &err) == T5_OK);
    check_spans(&s, n_bytes);
    t5_sentences_deinit(&s);
    return 0;
}
