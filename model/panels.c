/* model/panels.c: see panels.h. Sixteen lines are read side by side and written as one: a cache line of the panel is
 * filled at once, and nothing is read twice. */
#include "model/panels.h"

#include "base/assert.h"

#include <string.h>

#define BLOCK_WEIGHTS (2 * T5_QUAD) /* of int4, in a word */

static size_t groups_of(int32_t n_cols)
{
    return ((size_t)n_cols + T5_INT4_GROUP - 1) / T5_INT4_GROUP;
}

size_t t5_line_bytes(t5_storage storage, int32_t n_cols)
{
    const size_t n = (size_t)n_cols;
    switch (storage) {
    case T5_STORE_F32:
        return n * sizeof(float);
    case T5_STORE_F16:
    case T5_STORE_BF16:
        return n * sizeof(uint16_t);
    case T5_STORE_PAIRS:
        return (n + T5_ROW16_STEP - 1) / T5_ROW16_STEP * T5_ROW16_STEP * sizeof(uint16_t);
    case T5_STORE_INT8:
        return (n + T5_QUAD - 1) / T5_QUAD * T5_QUAD;
    case T5_STORE_INT4:
        break;
    }
    return groups_of(n_cols) * T5_INT4_GROUP_BYTES(1);
}

/* n words of each line, the lines `stride` bytes apart, to [n][step bytes]. */
static void put_words(const unsigned char *lines, size_t stride, size_t n, unsigned char *out, size_t step)
{
    for (size_t i = 0; i < n; i++, lines += sizeof(uint32_t), out += step) {
        uint32_t words[T5_PANEL_STRIP];
        for (size_t c = 0; c < T5_PANEL_STRIP; c++)
            memcpy(&words[c], lines + c * stride, sizeof words[c]);
        memcpy(out, words, sizeof words);
    }
}

static void put_halves(const unsigned char *lines, size_t stride, size_t n, unsigned char *out, size_t step)
{
    for (size_t i = 0; i < n; i++, lines += sizeof(uint16_t), out += step) {
        uint16_t halves[T5_PANEL_STRIP];
        for (size_t c = 0; c < T5_PANEL_STRIP; c++)
            memcpy(&halves[c], lines + c * stride, sizeof halves[c]);
        memcpy(out, halves, sizeof halves);
    }
}

static void put_groups(const unsigned char *lines, size_t stride, size_t n_groups, int32_t width, int32_t column,
                       unsigned char *panel)
{
    const size_t n_words = T5_INT4_GROUP / BLOCK_WEIGHTS, w = (size_t)width, c = (size_t)column;
    const unsigned char *scales = lines + n_groups * n_words * sizeof(uint32_t);
    for (size_t g = 0; g < n_groups; g++, panel += T5_INT4_GROUP_BYTES(width)) {
        unsigned char *blocks = panel + w * sizeof(uint16_t);
        put_halves(scales + g * sizeof(uint16_t), stride, 1, panel + c * sizeof(uint16_t), 0);
        put_words(lines + g * n_words * sizeof(uint32_t), stride, n_words, blocks + c * sizeof(uint32_t),
                  w * sizeof(uint32_t));
    }
}

void t5_panel_put(t5_storage storage, int32_t width, int32_t n_cols, int32_t column, const void *lines, void *panel)
{
    T5_ASSERT(width % T5_PANEL_STRIP == 0 && column % T5_PANEL_STRIP == 0 && column < width);
    const size_t stride = t5_line_bytes(storage, n_cols), w = (size_t)width, c = (size_t)column;
    if (storage == T5_STORE_INT4) {
        put_groups(lines, stride, groups_of(n_cols), width, column, panel);
    } else if (storage == T5_STORE_F16 || storage == T5_STORE_BF16) {
        put_halves(lines, stride, stride / sizeof(uint16_t), (unsigned char *)panel + c * sizeof(uint16_t),
                   w * sizeof(uint16_t));
    } else {
        put_words(lines, stride, stride / sizeof(uint32_t), (unsigned char *)panel + c * sizeof(uint32_t),
                  w * sizeof(uint32_t));
    }
}

/* n pieces of n_bytes, `step` bytes apart. */
static unsigned char *gather(const unsigned char *from, size_t step, size_t n, size_t n_bytes, unsigned char *out)
{
    for (size_t i = 0; i < n; i++, from += step, out += n_bytes)
        memcpy(out, from, n_bytes);
    return out;
}

void t5_panel_get(t5_storage storage, int32_t width, int32_t n_cols, int32_t column, const void *panel, void *line)
{
    T5_ASSERT(column >= 0 && column < width);
    const size_t w = (size_t)width, c = (size_t)column, n_groups = groups_of(n_cols);
    const size_t n_bytes = storage == T5_STORE_F16 || storage == T5_STORE_BF16 ? sizeof(uint16_t) : sizeof(uint32_t);
    const unsigned char *from = panel;
    unsigned char *out = line;
    if (storage != T5_STORE_INT4) {
        (void)gather(from + c * n_bytes, w * n_bytes, t5_line_bytes(storage, n_cols) / n_bytes, n_bytes, out);
        return;
    }
    for (size_t g = 0; g < n_groups; g++)
        out = gather(from + g * T5_INT4_GROUP_BYTES(w) + w * sizeof(uint16_t) + c * n_bytes, w * n_bytes,
                     T5_INT4_GROUP / BLOCK_WEIGHTS, n_bytes, out);
    (void)gather(from + c * sizeof(uint16_t), T5_INT4_GROUP_BYTES(w), n_groups, sizeof(uint16_t), out);
}

void t5_line_int4(const uint8_t *q, const uint16_t *scales, int32_t n_cols, void *line)
{
    const size_t n_groups = groups_of(n_cols), n_words = n_groups * (T5_INT4_GROUP / BLOCK_WEIGHTS);
    unsigned char *out = line;
    for (size_t i = 0; i < n_words; i++, out += sizeof(uint32_t), q += BLOCK_WEIGHTS) {
        uint32_t low = 0, high = 0;
        memcpy(&low, q, sizeof low);
        memcpy(&high, q + T5_QUAD, sizeof high);
        low |= high << 4;
        memcpy(out, &low, sizeof low);
    }
    memcpy(out, scales, n_groups * sizeof *scales);
}
