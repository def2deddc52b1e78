/* model/decoding.c: see decoding.h. One table, made from decoding.def, drives JSON, flags, ranges and help, so that an
 * option is one row there and one field in t5_decoding. */
#include "model/decoding.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/log.h"
#include "json/json_file.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUPPRESS_NAME "suppress_tokens"
#define SEED_MAX INT64_MAX /* what JSON integers hold here; for flags too */

typedef enum { INT, FLOAT, BOOL, UINT64, EARLY } option_type;

typedef struct {
    const char *name;
    option_type type;
    size_t offset; /* of the field in t5_decoding */
    double value, min, max;
    const char *help;
} option_row;

static const option_row options[] = {
#define T5_OPTION(name, type, value, min, max, help) {#name, type, offsetof(t5_decoding, name), value, min, max, help},
#include "model/decoding.def"
#undef T5_OPTION
};

/* In the order of t5_early_stopping. */
static const char *const early_names[] = {"false", "true", "never"};

static void *field_of(t5_decoding *d, const option_row *option)
{
    return (char *)d + option->offset;
}

/* `number` is within the option's range and, except for FLOAT, integral. */
static void store(t5_decoding *d, const option_row *option, double number)
{
    T5_ASSERT(option->type == UINT64 || (number >= option->min && number <= option->max));
    switch (option->type) {
    case INT:
    case EARLY:
        *(int32_t *)field_of(d, option) = (int32_t)number;
        break;
    case FLOAT:
        *(double *)field_of(d, option) = number;
        break;
    case BOOL:
        *(bool *)field_of(d, option) = number != 0;
        break;
    case UINT64:
        *(uint64_t *)field_of(d, option) = (uint64_t)number;
        break;
    }
}

void t5_decoding_init(t5_decoding *d)
{
    *d = (t5_decoding){0};
    for (size_t i = 0; i < T5_COUNT(options); i++)
        store(d, &options[i], options[i].value);
}

/* With `dashes`, "num-beams" is num_beams too. */
static bool is_name(const char *name, const char *given, bool dashes)
{
    for (; *name != '\0'; name++, given++) {
        if (*given != *name && !(dashes && *name == '_' && *given == '-')) return false;
    }
    return *given == '\0';
}

static const option_row *find_option(const char *name, bool dashes)
{
    for (size_t i = 0; i < T5_COUNT(options); i++) {
        if (is_name(options[i].name, name, dashes)) return &options[i];
    }
    return NULL;
}

bool t5_decoding_has(const char *name)
{
    return find_option(name, false) != NULL || strcmp(name, SUPPRESS_NAME) == 0;
}

static_assert(T5_COUNT(options) < 32, "a bit for each option, and one for the list");

uint32_t t5_decoding_bit(const char *name)
{
    if (strcmp(name, SUPPRESS_NAME) == 0) return UINT32_C(1) << T5_COUNT(options);
    const option_row *option = find_option(name, false);
    return option != NULL ? UINT32_C(1) << (option - options) : 0;
}

static size_t n_bytes_of(const option_row *option)
{
    static const size_t n_bytes[] = {[INT] = sizeof(int32_t),
                                     [FLOAT] = sizeof(double),
                                     [BOOL] = sizeof(bool),
                                     [UINT64] = sizeof(uint64_t),
                                     [EARLY] = sizeof(int32_t)};
    return n_bytes[option->type];
}

void t5_decoding_overlay(t5_decoding *d, const t5_decoding *over, uint32_t bits)
{
    for (size_t i = 0; i < T5_COUNT(options); i++)
        if (bits >> i & 1)
            memcpy(field_of(d, &options[i]), (const char *)over + options[i].offset, n_bytes_of(&options[i]));
    if ((bits & t5_decoding_bit(SUPPRESS_NAME)) == 0) return;
    d->n_suppress = over->n_suppress;
    memcpy(d->suppress_tokens, over->suppress_tokens, sizeof d->suppress_tokens);
}

/* "an integer, allowed 1 to 32": what the option takes. */
static const char *describe(const option_row *option, char *out, size_t out_bytes)
{
    switch (option->type) {
    case INT:
        snprintf(out, out_bytes, "an integer, allowed %.0f to %.0f", option->min, option->max);
        break;
    case FLOAT:
        snprintf(out, out_bytes, "a number, allowed %g to %g", option->min, option->max);
        break;
    case BOOL:
        snprintf(out, out_bytes, "true or false");
        break;
    case UINT64:
        snprintf(out, out_bytes, "an integer, allowed 0 to %lld", (long long)SEED_MAX);
        break;
    case EARLY:
        snprintf(out, out_bytes, "true, false or \"never\"");
        break;
    }
    return out;
}

static t5_status fail_type(const option_row *option, const char *shown, t5_error *err)
{
    char allowed[80];
    return T5_FAIL(err, T5_ERR_ARG, "%s: %s is not %s", option->name, shown, describe(option, allowed, sizeof allowed));
}

static t5_status store_in_range(t5_decoding *d, const option_row *option, double number, const char *shown,
                                t5_error *err)
{
    if (!(number >= option->min && number <= option->max)) { /* NaN too */
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s is out of range, allowed %.10g to %.10g", option->name, shown,
                       option->min, option->max);
    }
    store(d, option, number);
    return T5_OK;
}

static t5_status store_early(t5_decoding *d, const option_row *option, const char *text, const char *shown,
                             t5_error *err)
{
    for (int32_t i = 0; i < (int32_t)T5_COUNT(early_names); i++) {
        if (strcmp(early_names[i], text) != 0) continue;
        store(d, option, i);
        return T5_OK;
    }
    return fail_type(option, shown, err);
}

static t5_status set_suppress_json(t5_decoding *d, const char *field, const json_t *value, t5_error *err)
{
    char shown[80];
    if (!json_is_array(value)) {
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s is not a list of token ids", field,
                       t5_json_show(shown, sizeof shown, value));
    }
    if (json_array_size(value) > T5_SUPPRESS_MAX) {
        return T5_FAIL(err, T5_ERR_ARG, "%s: %zu ids are too many, allowed 0 to %d", field, json_array_size(value),
                       T5_SUPPRESS_MAX);
    }
    int32_t ids[T5_SUPPRESS_MAX], n_ids = (int32_t)json_array_size(value);
    for (int32_t i = 0; i < n_ids; i++) {
        const json_t *item = json_array_get(value, (size_t)i);
        int64_t id = 0;
        if (!t5_json_get_int(item, 0, T5_VOCAB_MAX - 1, &id)) {
            return T5_FAIL(err, T5_ERR_ARG, "%s: %s is not a token id, allowed 0 to %d", field,
                           t5_json_show(shown, sizeof shown, item), T5_VOCAB_MAX - 1);
        }
        ids[i] = (int32_t)id;
    }
    d->n_suppress = n_ids;
    memcpy(d->suppress_tokens, ids, (size_t)n_ids * sizeof *ids);
    return T5_OK;
}

static t5_status set_int_json(t5_decoding *d, const option_row *option, const json_t *value, const char *shown,
                              t5_error *err)
{
    int64_t number = 0;
    if (!t5_json_get_int(value, INT64_MIN, INT64_MAX, &number)) return fail_type(option, shown, err);
    if (option->type == INT) return store_in_range(d, option, (double)number, shown, err);
    if (number < 0) {
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s is out of range, allowed 0 to %lld", option->name, shown,
                       (long long)SEED_MAX);
    }
    *(uint64_t *)field_of(d, option) = (uint64_t)number; /* not through a double, which has 53 bits */
    return T5_OK;
}

static t5_status set_option_json(t5_decoding *d, const option_row *option, const json_t *value, t5_error *err)
{
    char shown[80];
    t5_json_show(shown, sizeof shown, value);
    switch (option->type) {
    case INT:
    case UINT64:
        return set_int_json(d, option, value, shown, err);
    case FLOAT:
        if (!json_is_number(value)) return fail_type(option, shown, err);
        return store_in_range(d, option, json_number_value(value), shown, err);
    case BOOL:
        if (!json_is_boolean(value)) return fail_type(option, shown, err);
        store(d, option, json_is_true(value));
        return T5_OK;
    case EARLY:
        if (json_is_boolean(value)) {
            store(d, option, json_is_true(value) ? T5_EARLY_TRUE : T5_EARLY_FALSE);
            return T5_OK;
        }
        if (json_is_string(value) && strcmp(json_string_value(value), "never") == 0) {
            store(d, option, T5_EARLY_NEVER);
            return T5_OK;
        }
        break;
    }
    return fail_type(option, shown, err);
}

t5_status t5_decoding_set_field(t5_decoding *d, const char *name, const char *field, const struct json_t *value,
                                t5_error *err)
{
    if (json_is_null(value)) return T5_OK;
    if (strcmp(name, SUPPRESS_NAME) == 0) return set_suppress_json(d, field, value, err);
    const option_row *option = find_option(name, false);
    if (option == NULL) return T5_FAIL(err, T5_ERR_ARG, "%.60s: no such decoding option", field);
    option_row named = *option;
    named.name = field;
    return set_option_json(d, &named, value, err);
}

t5_status t5_decoding_set_json(t5_decoding *d, const char *name, const struct json_t *value, t5_error *err)
{
    return t5_decoding_set_field(d, name, name, value, err);
}

/* Digits only: strtoll and strtod would take spaces, hexadecimal and "nan". */
static bool is_decimal(const char *text)
{
    return *text != '\0' && strspn(text, "+-.0123456789eE") == strlen(text);
}

static bool parse_int(const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (!is_decimal(text) || *end != '\0') return false;
    *out = number; /* at the limits when it was beyond them: out of every range */
    return true;
}

/* "1,2,3" or "[1, 2, 3]"; empty for none. */
static t5_status set_suppress_text(t5_decoding *d, const char *text, t5_error *err)
{
    char json[16 * T5_SUPPRESS_MAX];
    bool has_brackets = text[strspn(text, " ")] == '[';
    int n = snprintf(json, sizeof json, has_brackets ? "%s" : "[%s]", text);
    json_t *list = n >= 0 && (size_t)n < sizeof json ? json_loads(json, 0, NULL) : NULL;
    if (list == NULL) return T5_FAIL(err, T5_ERR_ARG, SUPPRESS_NAME ": not a list of token ids such as 3,17");
    t5_status status = set_suppress_json(d, SUPPRESS_NAME, list, err);
    json_decref(list);
    return status;
}

static t5_status set_number_text(t5_decoding *d, const option_row *option, const char *value, const char *shown,
                                 t5_error *err)
{
    int64_t whole = 0;
    char *end = NULL;
    switch (option->type) {
    case INT:
        if (!parse_int(value, &whole)) return fail_type(option, shown, err);
        return store_in_range(d, option, (double)whole, shown, err);
    case UINT64: {
        errno = 0;
        unsigned long long seed = strtoull(value, &end, 10);
        bool is_number = strspn(value, "0123456789") == strlen(value) && *value != '\0';
        if (!is_number || errno == ERANGE || seed > SEED_MAX) return fail_type(option, shown, err);
        *(uint64_t *)field_of(d, option) = seed;
        return T5_OK;
    }
    default: {
        double number = strtod(value, &end);
        if (!is_decimal(value) || *end != '\0') return fail_type(option, shown, err);
        return store_in_range(d, option, number, shown, err);
    }
    }
}

t5_status t5_decoding_set_text(t5_decoding *d, const char *name, const char *value, t5_error *err)
{
    char shown[80];
    if (is_name(SUPPRESS_NAME, name, true)) return set_suppress_text(d, value, err);
    const option_row *option = find_option(name, true);
    if (option == NULL) return T5_FAIL(err, T5_ERR_ARG, "%.60s: no such decoding option", name);
    t5_log_quote(shown, sizeof shown, value);
    if (option->type == EARLY) return store_early(d, option, value, shown, err);
    if (option->type != BOOL) return set_number_text(d, option, value, shown, err);
    bool is_true = strcmp(value, "true") == 0;
    if (!is_true && strcmp(value, "false") != 0) return fail_type(option, shown, err);
    store(d, option, is_true);
    return T5_OK;
}

/* Sets option `name` when the object has it. */
static t5_status set_key(t5_decoding *d, const json_t *object, const char *name, t5_error *err)
{
    const json_t *value = json_object_get(object, name);
    return value == NULL ? T5_OK : t5_decoding_set_json(d, name, value, err);
}

t5_status t5_decoding_set_object(t5_decoding *d, const struct json_t *object, t5_error *err)
{
    t5_status status = T5_OK;
    for (size_t i = 0; i < T5_COUNT(options) && status == T5_OK; i++)
        status = set_key(d, object, options[i].name, err);
    return status == T5_OK ? set_key(d, object, SUPPRESS_NAME, err) : status;
}

/* ---- options of a Hugging Face folder ---- */

/* Lengths have an older name too, under which they count the start token. `name` wins when both are given. */
static t5_status set_length(t5_decoding *d, const json_t *object, const char *name, const char *old_name, t5_error *err)
{
    const json_t *value = json_object_get(object, name);
    bool is_old = value == NULL || json_is_null(value);
    if (is_old) value = json_object_get(object, old_name);
    if (value == NULL || json_is_null(value)) return T5_OK;
    char shown[80];
    int64_t length = 0;
    if (!t5_json_get_int(value, 0, INT32_MAX, &length)) {
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s is not an integer, allowed 0 to %d", is_old ? old_name : name,
                       t5_json_show(shown, sizeof shown, value), INT32_MAX);
    }
    const option_row *option = find_option(name, false);
    store(d, option, fmin(fmax((double)length - is_old, option->min), option->max));
    return T5_OK;
}

static bool is_length(const option_row *option)
{
    return option->offset == offsetof(t5_decoding, max_new_tokens) ||
           option->offset == offsetof(t5_decoding, min_new_tokens);
}

static bool is_for_sampling(const option_row *option)
{
    return option->offset == offsetof(t5_decoding, temperature) || option->offset == offsetof(t5_decoding, top_k) ||
           option->offset == offsetof(t5_decoding, top_p);
}

typedef struct {
    const char *name;
    double neutral; /* the value that changes nothing, also as a boolean; NAN: null and [] alone */
    bool is_for_sampling;
} foreign_row;

/* What else of generate() changes its tokens or scores. */
static const foreign_row foreign[] = {
    {"num_beam_groups", 1, false},
    {"diversity_penalty", 0, false},
    {"penalty_alpha", 0, false},
    {"encoder_repetition_penalty", 1, false},
    {"encoder_no_repeat_ngram_size", 0, false},
    {"guidance_scale", 1, false},
    {"renormalize_logits", 0, false},
    {"bad_words_ids", NAN, false},
    {"begin_suppress_tokens", NAN, false},
    {"constraints", NAN, false},
    {"dola_layers", NAN, false},
    {"exponential_decay_length_penalty", NAN, false},
    {"force_words_ids", NAN, false},
    {"forced_bos_token_id", NAN, false},
    {"forced_decoder_ids", NAN, false},
    {"forced_eos_token_id", NAN, false},
    {"sequence_bias", NAN, false},
    {"stop_strings", NAN, false},
    {"watermarking_config", NAN, false},
    {"epsilon_cutoff", 0, true},
    {"eta_cutoff", 0, true},
    {"min_p", 0, true},
    {"top_h", NAN, true},
    {"typical_p", 1, true},
};

static bool is_neutral(const foreign_row *row, const json_t *value)
{
    if (value == NULL || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0)) return true;
    if (json_is_boolean(value)) return (double)json_is_true(value) == row->neutral;
    return json_is_number(value) && json_number_value(value) == row->neutral;
}

/* The first end of sequence is config.json's, see hparams.c. */
static bool has_several_ends(const json_t *eos)
{
    for (size_t i = 1; i < json_array_size(eos); i++)
        if (!json_equal(json_array_get(eos, i), json_array_get(eos, 0))) return true;
    return false;
}

/* A folder that generate() would search otherwise is refused: to leave out what it asks for gives other tokens, and
 * nobody would see it. What matters to samples alone counts in a folder that samples. */
static t5_status check_foreign(const json_t *object, bool is_sampling, t5_error *err)
{
    char shown[80];
    const json_t *eos = json_object_get(object, "eos_token_id");
    for (size_t i = 0; i < T5_COUNT(foreign); i++) {
        const json_t *value = json_object_get(object, foreign[i].name);
        if (is_neutral(&foreign[i], value) || (foreign[i].is_for_sampling && !is_sampling)) continue;
        return T5_FAIL(err, T5_ERR_ARG, "%s: %s is not supported; remove the key to decode without it", foreign[i].name,
                       t5_json_show(shown, sizeof shown, value));
    }
    if (!has_several_ends(eos)) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG,
                   "eos_token_id: %s: only one end of sequence is supported; name that of the model alone",
                   t5_json_show(shown, sizeof shown, eos));
}

t5_status t5_decoding_set_folder(t5_decoding *d, const struct json_t *object, t5_error *err)
{
    t5_status status = T5_OK;
    t5_decoding set = *d;
    t5_error ignored = {0};
    T5_TRY(set_length(&set, object, "max_new_tokens", "max_length", err));
    T5_TRY(set_length(&set, object, "min_new_tokens", "min_length", err));
    T5_TRY(set_key(&set, object, "do_sample", err));
    for (size_t i = 0; i < T5_COUNT(options); i++) {
        if (is_length(&options[i])) continue;
        if (is_for_sampling(&options[i]) && !set.do_sample)
            (void)set_key(&set, object, options[i].name, &ignored);
        else
            T5_TRY(set_key(&set, object, options[i].name, err));
    }
    T5_TRY(set_key(&set, object, SUPPRESS_NAME, err));
    T5_TRY(check_foreign(object, set.do_sample, err));
    *d = set;
out:
    return status;
}

t5_status t5_decoding_load(const char *dir, t5_decoding *d, t5_error *err)
{
    char path[PATH_MAX];
    json_t *object = NULL;
    t5_error problem;
    t5_error_clear(&problem);
    t5_status status = T5_OK;
    T5_TRY(t5_json_load_in(dir, "generation_config.json", 0, path, &object, err));
    if (object == NULL) T5_TRY(t5_json_load_in(dir, "config.json", 0, path, &object, err));
    if (object == NULL) return T5_OK;
    if (t5_decoding_set_folder(d, object, &problem) != T5_OK)
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: %s", path, problem.text);
out:
    json_decref(object);
    return status;
}

t5_status t5_decoding_check(const t5_decoding *d, int32_t vocab_size, t5_error *err)
{
    if (d->do_sample && d->num_beams > 1) {
        return T5_FAIL(err, T5_ERR_ARG, "do_sample: sampling needs num_beams 1, it is %d", d->num_beams);
    }
    if (d->num_beams > 1 && 2 * d->num_beams > vocab_size) { /* a step has two candidates for each beam */
        return T5_FAIL(err, T5_ERR_ARG, "num_beams: %d needs a vocabulary of %d tokens, it has %d", d->num_beams,
                       2 * d->num_beams, vocab_size);
    }
    if (!d->do_sample && d->num_return_sequences > d->num_beams) {
        return T5_FAIL(err, T5_ERR_ARG, "num_return_sequences: %d is more than num_beams, %d, and do_sample is false",
                       d->num_return_sequences, d->num_beams);
    }
    if (d->min_new_tokens > d->max_new_tokens) {
        return T5_FAIL(err, T5_ERR_ARG, "min_new_tokens: %d is more than max_new_tokens, %d", d->min_new_tokens,
                       d->max_new_tokens);
    }
    for (int32_t i = 0; i < d->n_suppress; i++) {
        if (d->suppress_tokens[i] >= 0 && d->suppress_tokens[i] < vocab_size) continue;
        return T5_FAIL(err, T5_ERR_ARG, SUPPRESS_NAME ": %d is outside the vocabulary of %d tokens",
                       d->suppress_tokens[i], vocab_size);
    }
    return T5_OK;
}

t5_status t5_decoding_check_room(const char *field, int32_t n_new, int32_t n_prompt, int32_t tgt_len_max, t5_error *err)
{
    const int32_t n_max = tgt_len_max - 1 - n_prompt;
    if (n_new <= n_max) return T5_OK;
    if (n_prompt == 0) return T5_FAIL(err, T5_ERR_ARG, "%s: %d, at most %d are possible", field, n_new, n_max);
    return T5_FAIL(err, T5_ERR_ARG, "%s: %d, with a prompt of %d tokens at most %d are possible", field, n_new,
                   n_prompt, n_max);
}

static void print_option(FILE *file, const char *name, const char *kind, const char *help, const char *value)
{
    char flag[48];
    int n = snprintf(flag, sizeof flag, "--%s %s", name, kind);
    for (int i = 0; i < n; i++) {
        if (flag[i] == '_') flag[i] = '-';
    }
    fprintf(file, "  %-28s %s (default %s)\n", flag, help, value);
}

void t5_decoding_print_help(void *file)
{
    static const char *const kinds[] = {[INT] = "N", [FLOAT] = "X", [BOOL] = "BOOL", [UINT64] = "N", [EARLY] = "WHEN"};
    for (size_t i = 0; i < T5_COUNT(options); i++) {
        const option_row *option = &options[i];
        char value[32];
        snprintf(value, sizeof value, "%g", option->value);
        if (option->type == EARLY || option->type == BOOL) {
            snprintf(value, sizeof value, "%s", early_names[(int)option->value]);
        }
        print_option(file, option->name, kinds[option->type], option->help, value);
    }
    print_option(file, SUPPRESS_NAME, "LIST", "token ids that are never chosen, such as 3,17", "none");
}
