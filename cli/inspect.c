/* cli/inspect.c: `t5 inspect`: what a model folder holds, read without loading the weights. The report is built as JSON
 * once; the text form prints the same tree. */
#include "cli/commands.h"
#include "cli/request_lines.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#define LANGUAGES_MAX 1024
#define PAIRS_SHOWN 8   /* in the text form */
#define VALUE_COLUMN 36 /* of the text form */

typedef struct {
    const char *dir;
    t5_hparams hp;
    t5_tokenizer *tokenizer;
    t5_weights *weights;
    t5_profile profile;
} folder;

static t5_status folder_open(folder *f, const char *dir, t5_error *err)
{
    f->dir = dir;
    t5_status status = t5_open_tokenizer(dir, &f->hp, &f->tokenizer, err);
    if (status == T5_OK) status = t5_weights_open(dir, &f->weights, err);
    if (status == T5_OK) status = t5_profile_load(dir, f->tokenizer, f->hp.vocab_size, &f->profile, err);
    return status;
}

static void folder_close(folder *f)
{
    t5_profile_deinit(&f->profile);
    t5_weights_close(f->weights);
    t5_tokenizer_close(f->tokenizer);
}

static const char *family_name(const folder *f)
{
    if (strcmp(f->hp.family, "umt5") == 0) return "UMT5";
    if (strcmp(t5_tokenizer_kind(f->tokenizer), "bytes") == 0) return "ByT5";
    if (t5_tokenizer_find(f->tokenizer, "<2de>") >= 0) return "MADLAD-400";
    if (strcmp(f->hp.family, "mt5") == 0) return "mT5";
    return f->hp.is_gated ? "T5 v1.1 or FLAN-T5" : "T5 v1.0";
}

static const char *act_name(const t5_hparams *hp)
{
    static const char *const names[] = {
        [T5_ACT_RELU] = "relu", [T5_ACT_GELU_TANH] = "gelu (tanh)", [T5_ACT_GELU] = "gelu", [T5_ACT_SILU] = "silu"};
    return names[hp->act];
}

static json_t *sizes_json(const t5_hparams *hp, const t5_weights *weights)
{
    const bool is_tied = hp->is_tied || t5_weights_find(weights, "lm_head.weight") == NULL;
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:b, s:i, s:i, s:b}", "d_model", hp->d_model,
                     "d_kv", hp->d_kv, "d_ff", hp->d_ff, "n_heads", hp->n_heads, "n_enc_layers", hp->n_enc_layers,
                     "n_dec_layers", hp->n_dec_layers, "vocab_size", hp->vocab_size, "activation", act_name(hp),
                     "is_gated", hp->is_gated, "is_tied", is_tied, "rel_buckets", hp->rel_buckets, "rel_distance_max",
                     hp->rel_distance_max, "has_layer_bias", hp->has_layer_bias);
}

/* float32 keys and values; a backend may store less. */
static json_t *memory_json(const t5_hparams *hp, const t5_weights_summary *summary)
{
    json_int_t kv_bytes = (json_int_t)hp->n_dec_layers * 2 * hp->n_heads * hp->d_kv * (json_int_t)sizeof(float);
    return json_pack("{s:I, s:I, s:I, s:I}", "weight_file_bytes", (json_int_t)summary->n_bytes, "weights_float32_bytes",
                     (json_int_t)summary->n_params * 4, "kv_float32_bytes_per_target_token", kv_bytes,
                     "kv_float32_bytes_per_source_token", kv_bytes);
}

static json_t *pairs_json(const t5_profile *profile)
{
    json_t *pairs = json_array();
    for (int32_t i = 0; i < profile->n_pairs; i++) {
        const t5_pair *pair = &profile->pairs[i];
        json_array_append_new(pairs, json_pack("{s:s, s:s, s:s}", "source", pair->source, "target", pair->target,
                                               "prompt", pair->prompt));
    }
    return pairs;
}

static json_t *languages_json(const t5_profile *profile)
{
    static const char *codes[LANGUAGES_MAX];
    json_t *languages = json_array();
    int32_t n_codes = t5_profile_languages(profile, codes, LANGUAGES_MAX);
    for (int32_t i = 0; i < n_codes && i < LANGUAGES_MAX; i++)
        json_array_append_new(languages, json_string(codes[i]));
    return languages;
}

static json_t *decoding_json(const t5_decoding *d)
{
    static const char *const early[] = {"false", "true", "never"};
    json_t *object = json_object();
#define VALUE_INT(name) json_integer(d->name)
#define VALUE_UINT64(name) json_integer((json_int_t)d->name)
#define VALUE_FLOAT(name) json_real(d->name)
#define VALUE_BOOL(name) json_boolean(d->name)
#define VALUE_EARLY(name) json_string(early[d->name])
#define T5_OPTION(name, type, value, min, max, help) json_object_set_new(object, #name, VALUE_##type(name));
#include "model/decoding.def"
#undef T5_OPTION
#undef VALUE_INT
#undef VALUE_UINT64
#undef VALUE_FLOAT
#undef VALUE_BOOL
#undef VALUE_EARLY
    return object;
}

/* Absent from the report of weights that are not quantised. */
static json_t *quantization_json(const t5_weights_summary *summary)
{
    if (!t5_dtype_is_quantized(summary->dtype)) return NULL;
    json_t *how = json_pack("{s:i, s:s}", "bits", summary->dtype == T5_I8 ? 8 : 4, "scale_for_each",
                            summary->dtype == T5_I8 ? "row" : "group of a row");
    if (summary->panel > 0) json_object_set_new(how, "panel", json_integer(summary->panel));
    if (summary->dtype == T5_I4) json_object_set_new(how, "group", json_integer(T5_INT4_GROUP));
    return how;
}

static json_t *report_json(const folder *f)
{
    t5_weights_summary summary;
    t5_weights_summarize(f->weights, f->hp.is_tied, &summary);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o*, s:I, s:i, s:o, s:{s:i, s:i, s:i}, s:{s:s, s:i}, s:o, s:o, s:o, s:o}", "name",
        f->profile.name, "family", family_name(f), "model_type", f->hp.family, "format", summary.format, "dtype",
        t5_dtype_name(summary.dtype), "quantization", quantization_json(&summary), "n_params",
        (json_int_t)summary.n_params, "n_tensors", summary.n_tensors, "sizes", sizes_json(&f->hp, f->weights),
        "special_ids", "pad", f->hp.pad_id, "eos", f->hp.eos_id, "start", f->hp.start_id, "tokenizer", "kind",
        t5_tokenizer_kind(f->tokenizer), "n_pieces", t5_tokenizer_vocab_live(f->tokenizer), "memory",
        memory_json(&f->hp, &summary), "languages", languages_json(&f->profile), "pairs", pairs_json(&f->profile),
        "decoding", decoding_json(&f->profile.defaults));
}

static void print_scalar(const json_t *value)
{
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    fputs(text != NULL ? text : json_string_value(value), stdout);
    free(text);
}

/* The codes of a list on one line, or one line for each of the first pairs. */
static void print_list(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (json_is_string(item)) {
            printf(" %s", json_string_value(item));
        } else if (i < PAIRS_SHOWN) {
            const char *source = json_string_value(json_object_get(item, "source"));
            printf("\n  %s -> %s: \"%s\"", source[0] == '\0' ? "any" : source,
                   json_string_value(json_object_get(item, "target")),
                   json_string_value(json_object_get(item, "prompt")));
        } else {
            printf("\n  and %zu more; --json lists all", json_array_size(list) - i);
            break;
        }
    }
    putchar('\n');
}

/* "name value" a line; the members of an object are indented. */
static void print_text(json_t *object, int indent)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        printf("%*s%s", indent, "", key);
        if (json_is_object(value)) {
            putchar('\n');
            print_text(value, indent + 2);
        } else if (json_is_array(value)) {
            print_list(value);
        } else {
            printf("%*s", VALUE_COLUMN - indent - (int)strlen(key), "");
            print_scalar(value);
            putchar('\n');
        }
    }
}

static int inspect(t5_model_flags *model, bool is_json)
{
    t5_error err = {0};
    folder f = {0};
    const char *dir = NULL;
    json_t *report = NULL;
    t5_status status = t5_model_flags_dir(model, &dir, &err);
    if (status != T5_OK) goto out;
    T5_TRY(folder_open(&f, dir, &err));
    report = report_json(&f);
    if (report == NULL) {
        status = T5_FAIL(&err, T5_ERR_FORMAT, "%s: a name in it is not UTF-8", dir);
        goto out;
    }
    if (is_json) {
        status = t5_json_put(stdout, json_incref(report), &err);
    } else {
        print_text(report, 0);
    }
out:
    json_decref(report);
    folder_close(&f);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail("inspect", T5_EXIT_FAILED, &err);
}

int t5_command_inspect(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    const char *operand = NULL;
    bool is_json = false;
    const t5_flag flags[] = {{.name = "--json", .help = "the same as JSON", .is_on = &is_json}};
    const t5_command_line line = {
        .name = "inspect",
        .operands = "[DIR]",
        .about =
            "Prints what a model folder holds: family, sizes, number types, memory, tokenizer, languages, prompts and\n"
            "decoding defaults. The weights are not loaded.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = 1,
        .operand = &operand,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    if (operand != NULL && model.dir != NULL) {
        T5_FAIL(&err, T5_ERR_ARG, "--model %.80s and DIR %.80s: only one can be inspected", model.dir, operand);
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    }
    if (operand != NULL) model.dir = operand;
    return inspect(&model, is_json);
}
