/* translate/units.c: see units.h. */
#include "translate/units.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "translate/retry.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES_MAX 64 /* no piece of a vocabulary is longer */

void t5_units_init(t5_units *u, const t5_tokenizer *tokenizer, int32_t ids_max, int32_t n_units_max)
{
    *u = (t5_units){.tokenizer = tokenizer, .ids_max = ids_max, .n_units_max = n_units_max};
}

void t5_units_deinit(t5_units *u)
{
    for (int32_t i = 0; i < u->n_units; i++) {
        t5_unit *unit = &u->units[i];
        t5_unit_clear_results(unit);
        t5_retry_destroy(unit->retry);
        t5_sequence_deinit(&unit->live.seq);
        free(unit->ids);
        free(unit->spans);
    }
    free(u->units);
    free(u->buckets);
    free(u->prompted);
    *u = (t5_units){0};
}

/* FNV-1a over the sentence and its prompt's place. The client chooses the text, but n_units_max bounds what collisions
 * can cost. */
static uint32_t hash_of(const t5_pair *pair, const char *text, size_t n_bytes)
{
    uint64_t hash = 14695981039346656037u ^ (uint64_t)(uintptr_t)pair;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return (uint32_t)(hash ^ (hash >> 32));
}

/* Bucket that holds the unit, or the free one where it belongs. */
static int32_t find_bucket(const t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes)
{
    const uint32_t mask = (uint32_t)u->n_buckets - 1;
    uint32_t i = hash_of(pair, text, n_bytes) & mask;
    for (; u->buckets[i] >= 0; i = (i + 1) & mask) {
        const t5_unit *unit = &u->units[u->buckets[i]];
        if (unit->pair == pair && unit->n_bytes == n_bytes && memcmp(unit->text, text, n_bytes) == 0) break;
    }
    return (int32_t)i;
}

/* Room for one more unit, with at most half of the buckets in use. */
static t5_status make_room(t5_units *u, t5_error *err)
{
    u->is_full = u->n_units >= u->n_units_max;
    if (u->is_full) return T5_FAIL(err, T5_ERR_ARG, "the request has more than %d sentences", u->n_units_max);
    if (u->n_units < u->capacity) return T5_OK;
    const int32_t capacity = u->capacity == 0 ? 8 : 2 * u->capacity;
    t5_unit *units = realloc(u->units, (size_t)capacity * sizeof *units);
    if (units == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d sentences", capacity);
    u->units = units;
    const int32_t n_buckets = 2 * capacity;
    int32_t *buckets = malloc((size_t)n_buckets * sizeof *buckets);
    if (buckets == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d sentences", capacity);
    free(u->buckets);
    u->buckets = buckets;
    u->n_buckets = n_buckets;
    u->capacity = capacity;
    for (int32_t i = 0; i < n_buckets; i++)
        buckets[i] = -1;
    for (int32_t i = 0; i < u->n_units; i++)
        buckets[find_bucket(u, units[i].pair, units[i].text, units[i].n_bytes)] = i;
    return T5_OK;
}

/* u->prompted = prompt + sentence. */
static t5_status put_prompt(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, t5_error *err)
{
    const size_t prompt_bytes = strlen(pair->prompt);
    const size_t needed_bytes = prompt_bytes + n_bytes;
    if (needed_bytes > u->prompted_bytes) {
        char *prompted = realloc(u->prompted, 2 * needed_bytes);
        if (prompted == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "sentence: %zu bytes", needed_bytes);
        u->prompted = prompted;
        u->prompted_bytes = 2 * needed_bytes;
    }
    memcpy(u->prompted, pair->prompt, prompt_bytes);
    memcpy(u->prompted + prompt_bytes, text, n_bytes);
    return T5_OK;
}

t5_status t5_units_encode(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, int32_t **out,
                          int32_t *out_n, t5_error *err)
{
    const t5_status status = put_prompt(u, pair, text, n_bytes, err);
    if (status != T5_OK) return status;
    return t5_tokenizer_encode_alloc(u->tokenizer, u->prompted, strlen(pair->prompt) + n_bytes, INT32_MAX, out, out_n,
                                     err);
}

t5_status t5_units_locate(t5_units *u, int32_t i_unit, t5_error *err)
{
    t5_unit *unit = &u->units[i_unit];
    const size_t prompt_bytes = strlen(unit->pair->prompt);
    t5_sequence *seq = &unit->live.seq;
    T5_ASSERT(unit->ids != NULL);
    if (unit->spans != NULL) return T5_OK;
    t5_token_span *spans = malloc((size_t)unit->n_ids * sizeof *spans);
    if (spans == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d tokens", unit->n_ids);
    unit->spans = spans;
    t5_status status = put_prompt(u, unit->pair, unit->text, unit->n_bytes, err);
    if (status != T5_OK) return status;
    status =
        t5_tokenizer_encode_spans(u->tokenizer, u->prompted, prompt_bytes + unit->n_bytes, spans, unit->n_ids, err);
    seq->wants_alignment = true;
    seq->align_end = unit->n_ids - 1; /* without eos */
    while (seq->align_begin < seq->align_end && spans[seq->align_begin].end <= prompt_bytes)
        seq->align_begin++;
    if (seq->align_begin == seq->align_end) seq->align_begin = 0;
    return status;
}

bool t5_units_is_too_wide(const t5_units *u, size_t n_bytes)
{
    return n_bytes > (size_t)u->ids_max * TOKEN_BYTES_MAX;
}

t5_status t5_units_get(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, int32_t *out_index,
                       t5_error *err)
{
    T5_ASSERT(n_bytes > 0);
    if (u->n_buckets > 0) {
        const int32_t found = u->buckets[find_bucket(u, pair, text, n_bytes)];
        if (found >= 0) {
            *out_index = found;
            return T5_OK;
        }
    }
    t5_status status = make_room(u, err);
    if (status != T5_OK) return status;
    t5_unit unit = {.pair = pair, .text = text, .n_bytes = n_bytes, .is_too_long = t5_units_is_too_wide(u, n_bytes)};
    if (!unit.is_too_long) status = t5_units_encode(u, pair, text, n_bytes, &unit.ids, &unit.n_ids, err);
    if (status != T5_OK) return status;
    if (unit.n_ids > u->ids_max) {
        unit.is_too_long = true;
        free(unit.ids);
        unit.ids = NULL;
    }
    *out_index = u->n_units++;
    u->units[*out_index] = unit;
    u->buckets[find_bucket(u, pair, text, n_bytes)] = *out_index;
    return T5_OK;
}

t5_status t5_units_count(t5_units *u, const t5_pair *pair, const char *text, size_t n_bytes, int32_t *out_n,
                         t5_error *err)
{
    int32_t *ids = NULL;
    const t5_status status = t5_units_encode(u, pair, text, n_bytes, &ids, out_n, err);
    free(ids);
    return status;
}

t5_status t5_result_decode(const t5_tokenizer *tokenizer, const t5_output *output, t5_result *out, t5_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    const t5_status status = t5_tokenizer_decode(tokenizer, output->ids, output->n_ids, &text, &n_bytes, err);
    if (status != T5_OK) return status;
    const size_t n_leading = t5_utf8_leading_space(text, n_bytes);
    n_bytes -= n_leading;
    memmove(text, text + n_leading, n_bytes);
    n_bytes -= t5_utf8_trailing_space(text, n_bytes);
    t5_utf8_flatten(text, n_bytes);
    text[n_bytes] = '\0';
    *out = (t5_result){.text = text, .n_bytes = n_bytes, .output = output, .is_truncated = output->is_truncated};
    return T5_OK;
}

t5_status t5_results_decode(const t5_tokenizer *tokenizer, const t5_output *outputs, int32_t n_outputs, t5_result **out,
                            t5_error *err)
{
    T5_ASSERT(n_outputs > 0);
    t5_result *results = calloc((size_t)n_outputs, sizeof *results);
    if (results == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d results", n_outputs);
    for (int32_t i = 0; i < n_outputs; i++) {
        const t5_status status = t5_result_decode(tokenizer, &outputs[i], &results[i], err);
        if (status == T5_OK) continue;
        while (i > 0)
            free(results[--i].text);
        free(results);
        return status;
    }
    *out = results;
    return T5_OK;
}

t5_status t5_unit_decode(const t5_tokenizer *tokenizer, t5_unit *unit, t5_error *err)
{
    const t5_sequence *seq = &unit->live.seq;
    if (seq->error.status != T5_OK) {
        *err = seq->error;
        return err->status;
    }
    if (unit->results != NULL) return T5_OK;
    const t5_status status = t5_results_decode(tokenizer, seq->outputs, seq->n_outputs, &unit->results, err);
    if (status == T5_OK) unit->n_results = seq->n_outputs;
    return status;
}

void t5_unit_clear_results(t5_unit *unit)
{
    for (int32_t i = 0; i < unit->n_results; i++)
        free(unit->results[i].text);
    free(unit->results);
    unit->results = NULL;
    unit->n_results = 0;
}
