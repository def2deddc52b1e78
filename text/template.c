/* text/template.c: see template.h. */
#include "text/template.h"
#include "text/langcodes.h"

#include <string.h>

#define PLACEHOLDER_BYTES_MAX 16

typedef struct {
    const char *template_text;
    char *out;
    size_t out_bytes, n_bytes;
} expansion;

static t5_status append(expansion *e, const char *text, size_t n_bytes, t5_error *err)
{
    if (n_bytes >= e->out_bytes - e->n_bytes)
        return T5_FAIL(err, T5_ERR_FORMAT, "template \"%.64s\": the prompt is longer than %zu bytes", e->template_text,
                       e->out_bytes - 1);
    memcpy(e->out + e->n_bytes, text, n_bytes);
    e->n_bytes += n_bytes;
    e->out[e->n_bytes] = '\0';
    return T5_OK;
}

static t5_status append_name(expansion *e, const char *code, t5_error *err)
{
    char public_code[T5_LANGCODE_BYTES];
    const char *name = t5_langcode_normalize(code, public_code) ? t5_langcode_name(public_code) : NULL;
    if (name == NULL)
        return T5_FAIL(err, T5_ERR_FORMAT, "template \"%.64s\": no name is known for the language \"%.16s\"",
                       e->template_text, code);
    return append(e, name, strlen(name), err);
}

static bool is_word(const char *text, size_t n_bytes, const char *word)
{
    return n_bytes == strlen(word) && memcmp(text, word, n_bytes) == 0;
}

static t5_status append_placeholder(expansion *e, const char *word, size_t n_bytes, const char *source,
                                    const char *target, t5_error *err)
{
    if (is_word(word, n_bytes, "source")) return append(e, source, strlen(source), err);
    if (is_word(word, n_bytes, "target")) return append(e, target, strlen(target), err);
    if (is_word(word, n_bytes, "source_name")) return append_name(e, source, err);
    if (is_word(word, n_bytes, "target_name")) return append_name(e, target, err);
    return T5_FAIL(err, T5_ERR_FORMAT,
                   "template \"%.64s\": {%.*s} is none of {source}, {target}, {source_name}, {target_name}",
                   e->template_text, (int)(n_bytes < PLACEHOLDER_BYTES_MAX ? n_bytes : PLACEHOLDER_BYTES_MAX), word);
}

t5_status t5_template_expand(const char *template_text, const char *source, const char *target, char *out,
                             size_t out_bytes, t5_error *err)
{
    t5_status status = T5_OK;
    expansion e = {.template_text = template_text, .out = out, .out_bytes = out_bytes};
    const char *pos = template_text;

    out[0] = '\0';
    while (*pos != '\0') {
        size_t plain_bytes = strcspn(pos, "{}");
        T5_TRY(append(&e, pos, plain_bytes, err));
        pos += plain_bytes;
        if (*pos == '\0') break;
        if (pos[0] == pos[1]) { /* a doubled brace is one brace */
            T5_TRY(append(&e, pos, 1, err));
            pos += 2;
            continue;
        }
        size_t word_bytes = strcspn(pos + 1, "{}");
        if (pos[0] == '}' || pos[1 + word_bytes] != '}') {
            status = T5_FAIL(err, T5_ERR_FORMAT, "template \"%.64s\": a brace without its partner", template_text);
            goto out;
        }
        T5_TRY(append_placeholder(&e, pos + 1, word_bytes, source, target, err));
        pos += word_bytes + 2;
    }
out:
    return status;
}
