/* cli/request.c: see request.h. */
#include "cli/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static t5_status tokenize(const t5_request_source *s, const char *text, size_t n_bytes, int32_t ids_max, int32_t **out,
                          int32_t *out_n, t5_error *err)
{
    return t5_tokenizer_encode_alloc(t5_translator_tokenizer(s->translator), text, n_bytes, ids_max, out, out_n, err);
}

static t5_status request_new(const t5_request_source *s, t5_request **out, t5_error *err)
{
    t5_request *r = calloc(1, sizeof *r);
    if (r == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", sizeof *r);
    r->seq.decoding = s->decoding;
    *out = r;
    return T5_OK;
}

void t5_request_destroy(t5_request *r)
{
    if (r == NULL) return;
    t5_sequence_deinit(&r->seq);
    free(r->input_ids);
    free(r->prompt_ids);
    free(r);
}

/* Lends the ids to the sequence and fits a max_new_tokens that nobody asked for into the longest target. */
static void request_seal(const t5_request_source *s, t5_request *r, bool is_max_given)
{
    r->seq.input_ids = r->input_ids;
    r->seq.prompt_ids = r->prompt_ids;
    int32_t room = t5_translator_tgt_len_max(s->translator) - 1 - r->seq.n_prompt_ids;
    if (!is_max_given && room > 0 && r->seq.decoding.max_new_tokens > room) r->seq.decoding.max_new_tokens = room;
}

/* NULL when the key is absent or null. */
static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static t5_status ids_from_json(const t5_request_source *s, const char *key, const json_t *value, int32_t **out,
                               int32_t *out_n, t5_error *err)
{
    int32_t vocab_size = t5_translator_hparams(s->translator)->vocab_size;
    size_t n_ids = json_array_size(value);
    if (!json_is_array(value)) return T5_FAIL(err, T5_ERR_ARG, "%s: must be an array of token ids", key);
    if (n_ids > T5_SEQ_LEN_MAX) return T5_FAIL(err, T5_ERR_ARG, "%s: %zu ids, at most %d", key, n_ids, T5_SEQ_LEN_MAX);
    int32_t *ids = calloc(n_ids + 1, sizeof *ids);
    if (ids == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu ids", key, n_ids);
    for (size_t i = 0; i < n_ids; i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= vocab_size) {
            free(ids);
            if (!json_is_integer(item)) return T5_FAIL(err, T5_ERR_ARG, "%s[%zu]: must be a token id", key, i);
            return T5_FAIL(err, T5_ERR_ARG, "%s[%zu]: %lld is outside the vocabulary of %d", key, i, (long long)id,
                           vocab_size);
        }
        ids[i] = (int32_t)id;
    }
    *out = ids;
    *out_n = (int32_t)n_ids;
    return T5_OK;
}

/* Ids from exactly one of two keys: a text, tokenized, or the ids themselves. */
static t5_status ids_from_keys(const t5_request_source *s, const json_t *object, const char *text_key,
                               const char *ids_key, int32_t ids_max, int32_t **out, int32_t *out_n, t5_error *err)
{
    const json_t *text = value_of(object, text_key);
    const json_t *ids = value_of(object, ids_key);
    if ((text == NULL) == (ids == NULL))
        return T5_FAIL(err, T5_ERR_ARG, "exactly one of %s and %s must be given", text_key, ids_key);
    if (ids != NULL) return ids_from_json(s, ids_key, ids, out, out_n, err);
    if (!json_is_string(text)) return T5_FAIL(err, T5_ERR_ARG, "%s: must be a string", text_key);
    return tokenize(s, json_string_value(text), json_string_length(text), ids_max, out, out_n, err);
}

/* decoder_input_ids without the start token. */
static t5_status read_prompt(const t5_request_source *s, const json_t *object, t5_request *r, t5_error *err)
{
    const json_t *value = value_of(object, "decoder_input_ids");
    if (value == NULL) return T5_OK;
    t5_status status = ids_from_json(s, "decoder_input_ids", value, &r->prompt_ids, &r->seq.n_prompt_ids, err);
    if (status != T5_OK || r->seq.n_prompt_ids == 0) return status;
    if (r->prompt_ids[0] == t5_translator_hparams(s->translator)->start_id) {
        r->seq.n_prompt_ids--;
        memmove(r->prompt_ids, r->prompt_ids + 1, (size_t)r->seq.n_prompt_ids * sizeof *r->prompt_ids);
    }
    return T5_OK;
}

static t5_status read_bool(const json_t *object, const char *key, bool *out, t5_error *err)
{
    const json_t *value = value_of(object, key);
    if (value != NULL && !json_is_boolean(value)) return T5_FAIL(err, T5_ERR_ARG, "%s: must be true or false", key);
    *out = json_is_true(value);
    return T5_OK;
}

/* The options of the decoder, token_logprobs and alignment. */
static t5_status read_options(const json_t *object, t5_request *r, t5_error *err)
{
    t5_decoding *d = &r->seq.decoding;
    t5_status status = t5_decoding_set_object(d, object, err);
    if (status != T5_OK) return status;
    if (json_is_true(value_of(object, "do_sample")) && value_of(object, "num_beams") == NULL) d->num_beams = 1;
    status = read_bool(object, "token_logprobs", &r->shows_logprobs, err);
    if (status != T5_OK) return status;
    r->seq.wants_logprobs = true; /* a greedy result has a score too */
    return read_bool(object, "alignment", &r->seq.wants_alignment, err);
}

static t5_status parse_object(const char *line, size_t n_bytes, json_t **out, t5_error *err)
{
    json_error_t problem;
    json_t *object = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
    if (object == NULL) return T5_FAIL(err, T5_ERR_ARG, "bad JSON at byte %d: %s", problem.position, problem.text);
    if (!json_is_object(object)) {
        json_decref(object);
        return T5_FAIL(err, T5_ERR_ARG, "a request must be a JSON object");
    }
    *out = object;
    return T5_OK;
}

/* Refuses a key that is none of `names` and, when options are allowed, no decoding option either. */
static t5_status check_keys(json_t *object, const char *const *names, size_t n_names, bool has_options, t5_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        bool is_known = has_options && t5_decoding_has(key);
        for (size_t i = 0; i < n_names; i++)
            is_known = is_known || strcmp(key, names[i]) == 0;
        if (!is_known) return T5_FAIL(err, T5_ERR_ARG, "%.80s: unknown key", key);
    }
    return T5_OK;
}

t5_status t5_request_generate_text(const t5_request_source *s, const char *text, size_t n_bytes, t5_request **out,
                                   t5_error *err)
{
    t5_request *r = NULL;
    t5_status status = request_new(s, &r, err);
    if (status != T5_OK) return status;
    int32_t ids_max = t5_translator_src_len_max(s->translator);
    T5_TRY(tokenize(s, text, n_bytes, ids_max, &r->input_ids, &r->seq.n_input_ids, err));
    request_seal(s, r, s->is_max_given);
    *out = r;
    r = NULL;
out:
    t5_request_destroy(r);
    return status;
}

t5_status t5_request_generate_json(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out,
                                   t5_error *err)
{
    static const char *const names[] = {"text", "input_ids", "decoder_input_ids", "token_logprobs", "alignment"};
    json_t *object = NULL;
    t5_request *r = NULL;
    t5_status status = parse_object(line, n_bytes, &object, err);
    if (status != T5_OK) return status;
    T5_TRY(check_keys(object, names, T5_COUNT(names), true, err));
    T5_TRY(request_new(s, &r, err));
    T5_TRY(ids_from_keys(s, object, "text", "input_ids", t5_translator_src_len_max(s->translator), &r->input_ids,
                         &r->seq.n_input_ids, err));
    T5_TRY(read_prompt(s, object, r, err));
    T5_TRY(read_options(object, r, err));
    request_seal(s, r, s->is_max_given || json_is_integer(json_object_get(object, "max_new_tokens")));
    *out = r;
    r = NULL;
out:
    t5_request_destroy(r);
    json_decref(object);
    return status;
}

t5_status t5_request_score_text(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out,
                                t5_error *err)
{
    const char *tab = memchr(line, '\t', n_bytes);
    if (tab == NULL) return T5_FAIL(err, T5_ERR_ARG, "no tab between text and target");
    t5_request *r = NULL;
    t5_status status = request_new(s, &r, err);
    if (status != T5_OK) return status;
    size_t n_text = (size_t)(tab - line);
    T5_TRY(
        tokenize(s, line, n_text, t5_translator_src_len_max(s->translator), &r->input_ids, &r->seq.n_input_ids, err));
    T5_TRY(tokenize(s, tab + 1, n_bytes - n_text - 1, t5_translator_tgt_len_max(s->translator) - 1, &r->prompt_ids,
                    &r->seq.n_prompt_ids, err));
    r->seq.is_score = true;
    request_seal(s, r, true);
    *out = r;
    r = NULL;
out:
    t5_request_destroy(r);
    return status;
}

t5_status t5_request_score_json(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out,
                                t5_error *err)
{
    static const char *const names[] = {"text", "input_ids", "target", "target_ids"};
    json_t *object = NULL;
    t5_request *r = NULL;
    t5_status status = parse_object(line, n_bytes, &object, err);
    if (status != T5_OK) return status;
    T5_TRY(check_keys(object, names, T5_COUNT(names), false, err));
    T5_TRY(request_new(s, &r, err));
    T5_TRY(ids_from_keys(s, object, "text", "input_ids", t5_translator_src_len_max(s->translator), &r->input_ids,
                         &r->seq.n_input_ids, err));
    T5_TRY(ids_from_keys(s, object, "target", "target_ids", t5_translator_tgt_len_max(s->translator) - 1,
                         &r->prompt_ids, &r->seq.n_prompt_ids, err));
    if (r->seq.n_prompt_ids == 0) {
        status = T5_FAIL(err, T5_ERR_ARG, "target_ids: must have at least one id");
        goto out;
    }
    r->seq.is_score = true;
    request_seal(s, r, true);
    *out = r;
    r = NULL;
out:
    t5_request_destroy(r);
    json_decref(object);
    return status;
}

/* JSON has no infinity: a token that cannot come gives null. */
static json_t *number_json(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *integers_json(const int32_t *values, int32_t n)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *logprobs_json(const t5_output *output)
{
    json_t *logprobs = json_array();
    for (int32_t i = 0; output->logprobs != NULL && i < output->n_ids; i++)
        json_array_append_new(logprobs, number_json((double)output->logprobs[i]));
    return logprobs;
}

t5_status t5_request_generate_reply(const t5_request_source *s, const t5_request *r, json_t **out, t5_error *err)
{
    json_t *sequences = json_array(), *texts = json_array(), *scores = json_array(), *logprobs = json_array();
    json_t *alignments = json_array();
    t5_status status = T5_OK;
    for (int32_t i = 0; i < r->seq.n_outputs; i++) {
        const t5_output *output = &r->seq.outputs[i];
        char *text = NULL;
        size_t n_bytes = 0;
        T5_TRY(t5_tokenizer_decode(t5_translator_tokenizer(s->translator), output->ids, output->n_ids, &text, &n_bytes,
                                   err));
        json_array_append_new(sequences, integers_json(output->ids, output->n_ids));
        json_array_append_new(texts, json_stringn(text, n_bytes));
        json_array_append_new(scores, number_json((double)output->score));
        json_array_append_new(logprobs, logprobs_json(output));
        if (output->alignment != NULL)
            json_array_append_new(alignments, integers_json(output->alignment, output->n_ids));
        free(text);
    }
    *out = json_pack("{s:O, s:O, s:O}", "sequences", sequences, "texts", texts, "scores", scores);
    if (r->shows_logprobs) json_object_set(*out, "token_logprobs", logprobs);
    if (r->seq.wants_alignment) {
        json_object_set_new(*out, "input_ids", integers_json(r->input_ids, r->seq.n_input_ids));
        json_object_set(*out, "alignment", alignments);
    }
    if (*out == NULL) status = T5_FAIL(err, T5_ERR_NOMEM, "a reply of %d results", r->seq.n_outputs);
out:
    json_decref(sequences);
    json_decref(texts);
    json_decref(scores);
    json_decref(logprobs);
    json_decref(alignments);
    return status;
}

t5_status t5_request_score_reply(const t5_request *r, json_t **out, t5_error *err)
{
    const t5_output *output = &r->seq.outputs[0];
    *out =
        json_pack("{s:o, s:o}", "token_logprobs", logprobs_json(output), "score", number_json((double)output->score));
    return *out != NULL ? T5_OK : T5_FAIL(err, T5_ERR_NOMEM, "a reply");
}
