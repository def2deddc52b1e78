/* tests/fuzz/fuzz_markup.c: any bytes as a text with markup; the first one chooses HTML or XML, and how the words move.
 * What is not translated is the source again; what is translated keeps each of its tags. */
#include "base/assert.h"
#include "base/utf8.h"
#include "tests/markup_rig.h"
#include "text/markup_write.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check_copy(const t5_markup *m)
{
    t5_error err = {0};
    t5_buffer out = {0};
    t5_markup_writer w = {.markup = m, .out = &out};
    T5_ASSERT(t5_markup_write_rest(&w, &err) == T5_OK);
    T5_ASSERT(out.n_bytes == m->source_bytes);
    T5_ASSERT(out.n_bytes == 0 || memcmp(out.bytes, m->source, out.n_bytes) == 0);
    t5_buffer_deinit(&out);
}

static void check_translation(const t5_markup *m, const t5_markup_options *options, t5_rig_mode mode)
{
    t5_error err = {0};
    t5_buffer out = {0};
    T5_ASSERT(t5_rig_translate(m->source, m->source_bytes, options, mode, false, &out, &err) == T5_OK);
    out.n_bytes = 0;
    const t5_status status = t5_rig_translate(m->source, m->source_bytes, options, mode, true, &out, &err);
    T5_ASSERT(status == T5_OK || status == T5_ERR_ARG); /* signs count as tags */
    out.n_bytes = 0;
    T5_ASSERT(t5_rig_translate(m->source, m->source_bytes, options, mode, false, &out, &err) == T5_OK);
    for (int32_t i = 0; i < m->n_marks; i++)
        T5_ASSERT(memmem(out.bytes, out.n_bytes, m->source + m->marks[i].offset, m->marks[i].n_bytes) != NULL);
    t5_buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char *const names[] = {"x", "code"};
    t5_error err = {0};
    t5_markup m;
    if (n_bytes == 0 || !t5_utf8_is_valid((const char *)data + 1, n_bytes - 1)) return 0;
    const t5_markup_options options = {.kind = data[0] & 1 ? T5_MARKUP_XML : T5_MARKUP_HTML,
                                       .ignored = {names, data[0] >> 7},
                                       .splitting = {names + 1, (data[0] >> 6) & 1},
                                       .finds_outline = (data[0] & 2) != 0};
    const t5_status status = t5_markup_parse((const char *)data + 1, n_bytes - 1, &options, &m, &err);
    T5_ASSERT(status == err.status && (status == T5_OK || status == T5_ERR_ARG));
    if (status != T5_OK) return 0;
    T5_ASSERT(t5_utf8_is_valid(m.plain, m.plain_bytes));
    check_copy(&m);
    check_translation(&m, &options, (t5_rig_mode)((data[0] >> 2) % RIG_N_MODES));
    t5_markup_deinit(&m);
    return 0;
}
