/* model/safetensors_writer.c: see safetensors_writer.h; the format is described in safetensors.c. */
#include "model/safetensors_writer.h"

#include "base/assert.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_ALIGN 64 /* the data begins at a multiple; the reference writer has 8 */

struct t5_safetensors_writer {
    char path[PATH_MAX], part[PATH_MAX];
    FILE *file;
    int64_t n_left; /* bytes still to be put */
};

static t5_status write_error(const t5_safetensors_writer *w, t5_error *err)
{
    return T5_FAIL(err, T5_ERR_IO, "%s: %s", w->part, strerror(errno));
}

static json_t *header_json(const t5_safetensors_item *items, int32_t n_items, int64_t *out_bytes)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int64_t end = 0;
    for (int32_t i = 0; i < n_items; i++) {
        const t5_safetensors_item *item = &items[i];
        json_t *shape = json_array();
        for (int32_t k = 0; k < item->n_dims; k++)
            json_array_append_new(shape, json_integer(item->dims[k]));
        json_t *value = json_pack("{s:s, s:o, s:[I, I]}", "dtype", item->dtype, "shape", shape, "data_offsets",
                                  (json_int_t)end, (json_int_t)(end + item->n_bytes));
        if (json_object_set_new(header, item->name, value) != 0) {
            json_decref(header);
            return NULL;
        }
        end += item->n_bytes;
    }
    *out_bytes = end;
    return header;
}

static t5_status write_header(t5_safetensors_writer *w, const t5_safetensors_item *items, int32_t n_items,
                              t5_error *err)
{
    char spaces[HEADER_ALIGN];
    memset(spaces, ' ', sizeof spaces);
    json_t *header = header_json(items, n_items, &w->n_left);
    char *text = header != NULL ? json_dumps(header, JSON_COMPACT) : NULL;
    t5_status status = T5_OK;
    json_decref(header);
    if (text == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: header of %d tensors", w->part, n_items);
    unsigned char length[8];
    const size_t n_text = strlen(text);
    const size_t n_rest = (HEADER_ALIGN - (sizeof length + n_text) % HEADER_ALIGN) % HEADER_ALIGN;
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (unsigned char)((uint64_t)(n_text + n_rest) >> (8 * i));
    if (fwrite(length, 1, sizeof length, w->file) != sizeof length || fwrite(text, 1, n_text, w->file) != n_text ||
        fwrite(spaces, 1, n_rest, w->file) != n_rest)
        status = write_error(w, err);
    free(text);
    return status;
}

t5_status t5_safetensors_writer_open(const char *path, const t5_safetensors_item *items, int32_t n_items,
                                     t5_safetensors_writer **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_safetensors_writer *w = calloc(1, sizeof *w);
    if (w == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu bytes", path, sizeof *w);
    const int n_path = snprintf(w->path, sizeof w->path, "%s", path);
    const int n_part = snprintf(w->part, sizeof w->part, "%s.part", path);
    if (n_path < 0 || n_part < 0 || (size_t)n_part >= sizeof w->part) {
        status = T5_FAIL(err, T5_ERR_ARG, "%.80s...: the path is too long", path);
        goto out;
    }
    w->file = fopen(w->part, "wbxe");
    if (w->file == NULL) {
        status = write_error(w, err);
        goto out;
    }
    T5_TRY(write_header(w, items, n_items, err));
    *out = w;
    w = NULL; /* handed to the caller */
out:
    t5_safetensors_writer_close(w);
    return status;
}

t5_status t5_safetensors_writer_put(t5_safetensors_writer *w, const void *data, size_t n_bytes, t5_error *err)
{
    T5_ASSERT(n_bytes <= (uint64_t)w->n_left);
    if (fwrite(data, 1, n_bytes, w->file) != n_bytes) return write_error(w, err);
    w->n_left -= (int64_t)n_bytes;
    return T5_OK;
}

t5_status t5_safetensors_writer_finish(t5_safetensors_writer *w, t5_error *err)
{
    T5_ASSERT(w->n_left == 0);
    if (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0) return write_error(w, err);
    FILE *file = w->file;
    w->file = NULL;
    if (fclose(file) != 0 || rename(w->part, w->path) != 0) {
        const t5_status status = write_error(w, err);
        (void)unlink(w->part);
        return status;
    }
    return T5_OK;
}

void t5_safetensors_writer_close(t5_safetensors_writer *w)
{
    if (w == NULL) return;
    if (w->file != NULL) {
        (void)fclose(w->file);
        (void)unlink(w->part);
    }
    free(w);
}
