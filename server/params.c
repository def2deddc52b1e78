/* server/params.c: see params.h. The checks stand in the order in which LibreTranslate 1.9 makes them. */
#include "server/params.h"
#include "base/utf8.h"
#include "translate/route.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const t5_markup_options html = {.kind = T5_MARKUP_HTML};

const char *t5_params_echo(char out[T5_ECHO_BYTES], const char *text)
{
    size_t n = t5_utf8_cut(text, strlen(text), T5_ECHO_BYTES - 1);
    memcpy(out, text, n);
    out[n] = '\0';
    return out;
}

t5_status t5_params_read_string(const json_t *fields, const char *name, const char **out, t5_error *err)
{
    const json_t *value = json_object_get(fields, name);
    *out = NULL;
    if (value == NULL || json_is_null(value)) return T5_OK;
    if (!json_is_string(value)) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: %s must be a string", name);
    if (json_string_length(value) > 0) *out = json_string_value(value);
    return T5_OK;
}

static t5_status required_string(const json_t *fields, const char *name, const char **out, t5_error *err)
{
    t5_status status = t5_params_read_string(fields, name, out, err);
    if (status == T5_OK && *out == NULL)
        status = T5_FAIL(err, T5_ERR_ARG, "Invalid request: missing %s parameter", name);
    return status;
}

t5_status t5_params_check_q(const json_t *q, t5_error *err)
{
    bool is_empty = q == NULL || json_is_null(q) || (json_is_string(q) && json_string_length(q) == 0) ||
                    (json_is_array(q) && json_array_size(q) == 0);
    if (is_empty) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: missing q parameter");
    if (json_is_string(q)) return T5_OK;
    bool is_fine = json_is_array(q);
    for (size_t i = 0; i < json_array_size(q) && is_fine; i++)
        is_fine = json_is_string(json_array_get(q, i));
    if (!is_fine) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: q must be a string or an array of strings");
    return T5_OK;
}

static t5_status read_alternatives(const json_t *fields, int64_t limit, int32_t *out, t5_error *err)
{
    const json_t *value = json_object_get(fields, "alternatives");
    long long n = 0;
    bool is_number = true;
    if (json_is_integer(value)) {
        n = json_integer_value(value);
    } else if (json_is_string(value) && json_string_length(value) > 0) {
        char *end = NULL;
        errno = 0;
        n = strtoll(json_string_value(value), &end, 10);
        is_number = *end == '\0' && end != json_string_value(value) && errno != ERANGE;
    } else {
        is_number = value == NULL || json_is_string(value); /* "" counts as absent */
    }
    if (!is_number) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: alternatives parameter is not a number");
    if (limit >= 0 && n > limit)
        return T5_FAIL(err, T5_ERR_ARG, "Invalid request: alternatives parameter must be <= %" PRId64, limit);
    if (n < 0) n = 0;
    if (n > T5_BEAMS_MAX - 1) n = T5_BEAMS_MAX - 1; /* fewer than asked is allowed */
    *out = (int32_t)n;
    return T5_OK;
}

t5_status t5_params_check_limit(int64_t n, int64_t limit, t5_error *err)
{
    if (limit < 0 || n <= limit) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "Invalid request: request (%" PRId64 ") exceeds text limit (%" PRId64 ")", n,
                   limit);
}

/* Line ends become \n and one at the end goes: what LibreTranslate does to form values. Returns the new length. */
static size_t normalize_lines(char *text, size_t n_bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        bool is_crlf = text[i] == '\r' && i + 1 < n_bytes && text[i + 1] == '\n';
        if (!is_crlf) text[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (n > 0 && text[n - 1] == '\n') n--;
    text[n] = '\0';
    return n;
}

const json_t *t5_params_text_at(const json_t *q, size_t i)
{
    return json_is_array(q) ? json_array_get(q, i) : q;
}

t5_status t5_params_copy_texts(const json_t *q, bool is_form, t5_params *p, t5_error *err)
{
    size_t n_texts = json_is_array(q) ? json_array_size(q) : 1, n_bytes = 0;
    for (size_t i = 0; i < n_texts; i++)
        n_bytes += json_string_length(t5_params_text_at(q, i)) + 1;
    p->texts = calloc(n_texts, sizeof *p->texts);
    p->bytes = malloc(n_bytes);
    if (p->texts == NULL || p->bytes == NULL)
        return T5_FAIL(err, T5_ERR_NOMEM, "out of memory for %zu texts of %zu bytes", n_texts, n_bytes);

    char *next = p->bytes;
    for (size_t i = 0; i < n_texts; i++) {
        size_t n = json_string_length(t5_params_text_at(q, i));
        memcpy(next, json_string_value(t5_params_text_at(q, i)), n + 1);
        if (is_form) n = normalize_lines(next, n);
        p->texts[i] = (t5_text){.text = next, .n_bytes = n, .source = p->source, .target = p->target};
        next += n + 1;
    }
    p->n_texts = (int32_t)n_texts;
    p->is_batch = json_is_array(q);
    return T5_OK;
}

t5_status t5_params_read_inputs(const json_t *fields, const char *name, const t5_params_rules *rules,
                                t5_generation_input **out, int32_t *out_n, t5_error *err)
{
    const json_t *value = json_object_get(fields, name);
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    const bool is_missing = value == NULL || json_is_null(value) || n == 0;
    if (is_missing) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: missing %s parameter", name);
    t5_status status = t5_params_check_limit((int64_t)n, rules->texts_max, err);
    if (status != T5_OK) return status;
    t5_generation_input *inputs = calloc(n, sizeof *inputs);
    if (inputs == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu texts", name, n);
    *out = inputs;
    *out_n = (int32_t)n;
    for (size_t i = 0; i < n && status == T5_OK; i++) {
        const json_t *text = t5_params_text_at(value, i);
        if (!json_is_string(text))
            return T5_FAIL(err, T5_ERR_ARG, "Invalid request: %s must be a string or an array of strings", name);
        inputs[i] = (t5_generation_input){.text = json_string_value(text), .n_bytes = json_string_length(text)};
        const int64_t n_chars = (int64_t)t5_utf8_count(inputs[i].text, inputs[i].n_bytes);
        status = t5_params_check_limit(n_chars, rules->chars_max, err);
    }
    return status;
}

static t5_status check_texts(const t5_params *p, const t5_params_rules *rules, t5_error *err)
{
    t5_status status = t5_params_check_limit(p->n_texts, rules->texts_max, err);
    for (int32_t i = 0; i < p->n_texts && status == T5_OK; i++)
        status =
            t5_params_check_limit((int64_t)t5_utf8_count(p->texts[i].text, p->texts[i].n_bytes), rules->chars_max, err);
    return status;
}

static t5_status read_format(const json_t *fields, bool *out_is_html, t5_error *err)
{
    char shown[T5_ECHO_BYTES];
    const char *format = NULL;
    t5_status status = t5_params_read_string(fields, "format", &format, err);
    *out_is_html = format != NULL && strcmp(format, "html") == 0;
    if (status != T5_OK || format == NULL || *out_is_html || strcmp(format, "text") == 0) return status;
    return T5_FAIL(err, T5_ERR_ARG, "%s format is not supported", t5_params_echo(shown, format));
}

/* The public code of what a client wrote. */
static t5_status read_language(const char *given, const t5_params_rules *rules, char out[T5_LANGCODE_BYTES],
                               t5_error *err)
{
    const char *code = NULL;
    t5_status status = t5_route_match(given, rules->languages, &code, err);
    if (status == T5_OK) snprintf(out, T5_LANGCODE_BYTES, "%s", code);
    return status;
}

/* source, target, format, pair: what is wrong first is named. */
static t5_status read_languages(const json_t *fields, const char *source, const char *target,
                                const t5_params_rules *rules, t5_params *p, t5_error *err)
{
    t5_status status = T5_OK;
    bool is_auto = strcasecmp(source, "auto") == 0;
    if (is_auto) snprintf(p->source, sizeof p->source, "auto");
    if (!is_auto) T5_TRY(read_language(source, rules, p->source, err));
    T5_TRY(read_language(target, rules, p->target, err));
    T5_TRY(read_format(fields, &p->is_html, err));
    if (!is_auto) T5_TRY(t5_route_check(rules->languages, p->source, p->target, err));
out:
    return status;
}

/* The client gave a value to the field. */
static bool is_given(const json_t *fields, bool is_form, const char *name)
{
    const json_t *value = json_object_get(fields, name);
    return value != NULL && !json_is_null(value) && !(is_form && json_string_length(value) == 0);
}

t5_status t5_params_read_bool(const json_t *fields, bool is_form, const char *name, bool *out, t5_error *err)
{
    const json_t *value = json_object_get(fields, name);
    *out = false;
    if (!is_given(fields, is_form, name)) return T5_OK;
    const char *text = is_form ? json_string_value(value) : NULL;
    const bool is_true = text != NULL ? strcmp(text, "true") == 0 || strcmp(text, "1") == 0 : json_is_true(value);
    const bool is_false = text != NULL ? strcmp(text, "false") == 0 || strcmp(text, "0") == 0 : json_is_false(value);
    if (!is_true && !is_false) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: %s must be true or false", name);
    *out = is_true;
    return T5_OK;
}

bool t5_params_read_split(const json_t *fields, t5_split *out)
{
    static const struct {
        const char *text;
        t5_split split;
    } values[] = {{"0", T5_SPLIT_NOWHERE}, {"1", T5_SPLIT_LINES}, {"nonewlines", T5_SPLIT_MARKS}};
    const json_t *value = json_object_get(fields, "split_sentences");
    const char *text = json_string_value(value);
    if (value == NULL || json_is_null(value) || (text != NULL && text[0] == '\0')) return true;
    if (json_is_boolean(value)) text = json_is_true(value) ? "1" : "0";
    if (json_is_integer(value) && json_integer_value(value) == 0) text = "0";
    if (json_is_integer(value) && json_integer_value(value) == 1) text = "1";
    for (size_t i = 0; i < T5_COUNT(values) && text != NULL; i++) {
        if (strcasecmp(text, values[i].text) != 0) continue;
        *out = values[i].split;
        return true;
    }
    return false;
}

t5_status t5_params_read_decoding(const json_t *fields, bool is_form, t5_decoding *d, uint32_t *out_given,
                                  t5_error *err)
{
    t5_error cause = {0};
    t5_status status = T5_OK;
    const char *name = NULL;
    json_t *value = NULL, *object = (json_t *)(size_t)fields; /* jansson's iterator wants it writable */
    *out_given = 0;
    if (!is_form) status = t5_decoding_set_object(d, fields, &cause);
    json_object_foreach(object, name, value)
    {
        bool is_option = t5_decoding_has(name) && is_given(fields, is_form, name);
        if (is_option) *out_given |= t5_decoding_bit(name);
        if (status == T5_OK && is_form && is_option)
            status = t5_decoding_set_text(d, name, json_string_value(value), &cause);
    }
    /* Sampling takes one beam; a client need not know that the model's folder asks for more. */
    bool is_sampling_asked = d->do_sample && is_given(fields, is_form, "do_sample");
    if (is_sampling_asked && !is_given(fields, is_form, "num_beams")) {
        d->num_beams = 1;
        *out_given |= t5_decoding_bit("num_beams");
    }
    return status == T5_OK ? T5_OK : T5_FAIL(err, status, "Invalid request: %s", cause.text);
}

t5_status t5_params_read(const json_t *fields, bool is_form, const t5_params_rules *rules, t5_params *out,
                         t5_error *err)
{
    t5_status status = T5_OK;
    const char *source = NULL, *target = NULL;
    const json_t *q = json_object_get(fields, "q");
    *out = (t5_params){0};
    t5_decoding_init(&out->decoding);

    T5_TRY(t5_params_check_q(q, err));
    T5_TRY(required_string(fields, "source", &source, err));
    T5_TRY(required_string(fields, "target", &target, err));
    T5_TRY(read_alternatives(fields, rules->alternatives_max, &out->n_alternatives, err));
    T5_TRY(t5_params_copy_texts(q, is_form, out, err));
    T5_TRY(check_texts(out, rules, err));
    T5_TRY(read_languages(fields, source, target, rules, out, err));
    for (int32_t i = 0; i < out->n_texts && out->is_html; i++)
        out->texts[i].markup = &html;
    if (!t5_params_read_split(fields, &out->split))
        T5_TRY(T5_FAIL(err, T5_ERR_ARG, "Invalid request: split_sentences must be 0, 1 or nonewlines"));
    T5_TRY(t5_params_read_decoding(fields, is_form, &out->decoding, &out->given, err));
    out->has_max_new_tokens = (out->given & t5_decoding_bit("max_new_tokens")) != 0;
    T5_TRY(t5_params_read_bool(fields, is_form, "stream", &out->is_streamed, err));
out:
    if (status != T5_OK) t5_params_deinit(out);
    return status;
}

void t5_params_deinit(t5_params *p)
{
    free(p->texts);
    free(p->bytes);
    p->texts = NULL;
    p->bytes = NULL;
    p->n_texts = 0;
}
