/* model/hparams.c: see hparams.h. Reads config.json as transformers' T5Config, MT5Config and UMT5Config do: what a
 * file leaves out, or sets to null, takes the family's default. The sizes have no default here: a folder without them
 * is broken. */
#include "model/hparams.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "json/json_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH_MAX 1048576 /* d_model, d_ff and heads x d_kv */
#define HEADS_MAX 1024

typedef struct {
    const char *name;
    const char *feed_forward_proj;
    bool is_tied;
    bool has_layer_bias;
    bool starts_with_pad; /* decoder_start_token_id defaults to pad_token_id instead of 0 */
    bool scales_in_5;     /* transformers 5 may scale its decoder output */
} family_row;

static const family_row families[] = {
    {"t5", "relu", true, false, true, true},
    {"mt5", "gated-gelu", false, false, false, false},
    {"umt5", "gated-gelu", true, true, false, true},
};

typedef struct {
    const char *name;
    t5_act act;
} act_row;

/* The names of transformers' activations.py that T5 models use. */
static const act_row acts[] = {
    {"relu", T5_ACT_RELU},          {"gelu", T5_ACT_GELU},
    {"gelu_new", T5_ACT_GELU_TANH}, {"gelu_pytorch_tanh", T5_ACT_GELU_TANH},
    {"silu", T5_ACT_SILU},          {"swish", T5_ACT_SILU},
};

typedef struct {
    const char *path;
    const json_t *root;
} config_file;

/* The value of `key`, or NULL when it is missing or null. */
static const json_t *get(const config_file *file, const char *key)
{
    const json_t *value = json_object_get(file->root, key);
    return value == NULL || json_is_null(value) ? NULL : value;
}

static t5_status fail_value(const config_file *file, const char *key, const json_t *value, const char *allowed,
                            t5_error *err)
{
    char shown[80];
    if (value == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: %s is missing, allowed is %s", file->path, key, allowed);
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: %s: %s is not allowed, allowed is %s", file->path, key,
                   t5_json_show(shown, sizeof shown, value), allowed);
}

static t5_status check_int(const config_file *file, const char *key, const json_t *value, int32_t min, int32_t max,
                           int32_t *out, t5_error *err)
{
    if (value != NULL && json_is_integer(value) && json_integer_value(value) >= min &&
        json_integer_value(value) <= max) {
        *out = (int32_t)json_integer_value(value);
        return T5_OK;
    }
    char allowed[64];
    snprintf(allowed, sizeof allowed, "an integer from %d to %d", min, max);
    return fail_value(file, key, value, allowed, err);
}

/* An integer that must be there. */
static t5_status need_int(const config_file *file, const char *key, int32_t min, int32_t max, int32_t *out,
                          t5_error *err)
{
    return check_int(file, key, get(file, key), min, max, out, err);
}

/* An integer that keeps the value it has when it is not there. */
static t5_status read_int(const config_file *file, const char *key, int32_t min, int32_t max, int32_t *inout,
                          t5_error *err)
{
    const json_t *value = get(file, key);
    return value == NULL ? T5_OK : check_int(file, key, value, min, max, inout, err);
}

static t5_status read_bool(const config_file *file, const char *key, bool *inout, t5_error *err)
{
    const json_t *value = get(file, key);
    if (value == NULL) return T5_OK;
    if (!json_is_boolean(value)) return fail_value(file, key, value, "true or false", err);
    *inout = json_is_true(value);
    return T5_OK;
}

static t5_status read_text(const config_file *file, const char *key, const char **inout, t5_error *err)
{
    const json_t *value = get(file, key);
    if (value == NULL) return T5_OK;
    if (!json_is_string(value)) return fail_value(file, key, value, "a string", err);
    *inout = json_string_value(value);
    return T5_OK;
}

static t5_status read_family(const config_file *file, const family_row **out, t5_error *err)
{
    const char *name = NULL;
    t5_status status = read_text(file, "model_type", &name, err);
    if (status != T5_OK) return status;
    if (name == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: not a T5 model: model_type is missing", file->path);
    for (size_t i = 0; i < T5_COUNT(families); i++) {
        if (strcmp(families[i].name, name) != 0) continue;
        *out = &families[i];
        return T5_OK;
    }
    char quoted[80];
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: not a T5 model: model_type %s, allowed are t5, mt5 and umt5", file->path,
                   t5_log_quote(quoted, sizeof quoted, name));
}

static t5_status read_sizes(const config_file *file, t5_hparams *hp, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(need_int(file, "vocab_size", 1, T5_VOCAB_MAX, &hp->vocab_size, err));
    T5_TRY(need_int(file, "d_model", 1, WIDTH_MAX, &hp->d_model, err));
    T5_TRY(need_int(file, "d_kv", 1, WIDTH_MAX, &hp->d_kv, err));
    T5_TRY(need_int(file, "d_ff", 1, WIDTH_MAX, &hp->d_ff, err));
    T5_TRY(need_int(file, "num_heads", 1, HEADS_MAX, &hp->n_heads, err));
    if ((int64_t)hp->n_heads * hp->d_kv > WIDTH_MAX) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: num_heads x d_kv: %d x %d is out of range, allowed is at most %d",
                       file->path, hp->n_heads, hp->d_kv, WIDTH_MAX);
    }
    T5_TRY(need_int(file, "num_layers", 1, T5_LAYERS_MAX, &hp->n_enc_layers, err));
    hp->n_dec_layers = hp->n_enc_layers;
    T5_TRY(read_int(file, "num_decoder_layers", 1, T5_LAYERS_MAX, &hp->n_dec_layers, err));
out:
    return status;
}

/* The bucket formula divides by log(distance_max / exact), exact being n / 4 in the encoder and n / 2 in the decoder.
 */
static t5_status read_buckets(const config_file *file, t5_hparams *hp, t5_error *err)
{
    t5_status status = T5_OK;
    hp->rel_buckets = 32;
    hp->rel_distance_max = 128;
    T5_TRY(read_int(file, "relative_attention_num_buckets", 4, 65536, &hp->rel_buckets, err));
    T5_TRY(read_int(file, "relative_attention_max_distance", hp->rel_buckets / 2 + 1, 1 << 20, &hp->rel_distance_max,
                    err));
    if (hp->rel_distance_max <= hp->rel_buckets / 2) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: relative_attention_max_distance is missing; %d buckets need over %d",
                         file->path, hp->rel_buckets, hp->rel_buckets / 2);
    }
out:
    return status;
}

static t5_status read_eps(const config_file *file, t5_hparams *hp, t5_error *err)
{
    hp->norm_eps = 1e-6f;
    const json_t *value = get(file, "layer_norm_epsilon");
    if (value == NULL) return T5_OK;
    double eps = json_number_value(value); /* 0 when it is not a number */
    if (!(eps >= 1e-30 && eps <= 1.0)) {
        return fail_value(file, "layer_norm_epsilon", value, "a number from 1e-30 to 1", err);
    }
    hp->norm_eps = (float)eps;
    return T5_OK;
}

/* "gated-ACT" or "ACT"; "gated-gelu" has always meant the tanh form. dense_act_fn and is_gated_act, which newer
 * transformers write beside it, win, as they do there. */
static t5_status read_activation(const config_file *file, const family_row *family, t5_hparams *hp, t5_error *err)
{
    t5_status status = T5_OK;
    const char *proj = family->feed_forward_proj;
    T5_TRY(read_text(file, "feed_forward_proj", &proj, err));
    hp->is_gated = strncmp(proj, "gated-", 6) == 0;
    const char *name = hp->is_gated ? proj + 6 : proj;
    if (strcmp(proj, "gated-gelu") == 0) name = "gelu_new";
    T5_TRY(read_text(file, "dense_act_fn", &name, err));
    T5_TRY(read_bool(file, "is_gated_act", &hp->is_gated, err));
    for (size_t i = 0; i < T5_COUNT(acts); i++) {
        if (strcmp(acts[i].name, name) != 0) continue;
        hp->act = acts[i].act;
        return T5_OK;
    }
    char quoted[80];
    status = T5_FAIL(err, T5_ERR_FORMAT,
                     "%s: %s: unknown activation %s, allowed are relu, gelu, gelu_new, silu and gated- forms of them",
                     file->path, get(file, "dense_act_fn") != NULL ? "dense_act_fn" : "feed_forward_proj",
                     t5_log_quote(quoted, sizeof quoted, name));
out:
    return status;
}

static bool is_of_transformers_5(const config_file *file)
{
    const char *version = json_string_value(get(file, "transformers_version"));
    return version != NULL && strtol(version, NULL, 10) >= 5;
}

/* transformers 5 writes that every model is tied; it goes by whether the file has a head. `t5 quantize`, which may add
 * the head of a tied model, writes what is true. */
static t5_status read_head(const config_file *file, const family_row *family, t5_hparams *hp, t5_error *err)
{
    t5_status status = T5_OK;
    const bool is_of_5 = is_of_transformers_5(file);
    hp->is_tied = family->is_tied;
    T5_TRY(read_bool(file, "tie_word_embeddings", &hp->is_tied, err));
    hp->scales_decoder_out = hp->is_tied && (family->scales_in_5 || !is_of_5);
    T5_TRY(read_bool(file, "scale_decoder_outputs", &hp->scales_decoder_out, err));
    if (is_of_5 && get(file, "quantization_config") == NULL) hp->is_tied = false;
out:
    return status;
}

/* Keeps its value when there is none. */
static t5_status read_eos(const config_file *file, int32_t id_max, int32_t *inout, t5_error *err)
{
    const json_t *eos = get(file, "eos_token_id");
    if (eos == NULL) return T5_OK;
    if (json_is_array(eos)) eos = json_array_get(eos, 0); /* the first is the one that T5 was trained with */
    return check_int(file, "eos_token_id", eos, 0, id_max, inout, err);
}

static t5_status read_ids(const config_file *file, const family_row *family, t5_hparams *hp, t5_error *err)
{
    t5_status status = T5_OK;
    int32_t id_max = hp->vocab_size - 1;
    hp->pad_id = 0;
    T5_TRY(read_int(file, "pad_token_id", 0, id_max, &hp->pad_id, err));
    hp->eos_id = 1;
    T5_TRY(read_eos(file, id_max, &hp->eos_id, err));
    hp->start_id = family->starts_with_pad ? hp->pad_id : 0;
    T5_TRY(read_int(file, "decoder_start_token_id", 0, id_max, &hp->start_id, err));
    if (hp->eos_id > id_max) {
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: eos_token_id: %d is outside the vocabulary of %d", file->path,
                         hp->eos_id, hp->vocab_size);
    }
out:
    return status;
}

/* Other methods keep their weights in layouts of their own, which would look like missing tensors. */
static t5_status check_quantization(const config_file *file, t5_error *err)
{
    const json_t *how = get(file, "quantization_config");
    if (how == NULL) return T5_OK;
    const json_t *method = json_object_get(how, "quant_method"), *bits = json_object_get(how, "bits");
    if (!json_is_string(method) || strcmp(json_string_value(method), "t5serve") != 0)
        return fail_value(file, "quantization_config.quant_method", method, "\"t5serve\" (made by t5 quantize)", err);
    if (json_is_integer(bits) && (json_integer_value(bits) == 8 || json_integer_value(bits) == 4)) return T5_OK;
    return fail_value(file, "quantization_config.bits", bits, "8 or 4", err);
}

static t5_status read_all(const config_file *file, t5_hparams *hp, t5_error *err)
{
    t5_status status = T5_OK;
    const family_row *family = NULL;
    bool is_encoder_decoder = true;
    T5_TRY(read_family(file, &family, err));
    snprintf(hp->family, sizeof hp->family, "%s", family->name);
    hp->has_layer_bias = family->has_layer_bias;
    T5_TRY(read_bool(file, "is_encoder_decoder", &is_encoder_decoder, err));
    if (!is_encoder_decoder) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: is_encoder_decoder is false: a T5 without decoder cannot generate",
                       file->path);
    }
    T5_TRY(check_quantization(file, err));
    T5_TRY(read_sizes(file, hp, err));
    T5_TRY(read_buckets(file, hp, err));
    T5_TRY(read_eps(file, hp, err));
    T5_TRY(read_activation(file, family, hp, err));
    T5_TRY(read_head(file, family, hp, err));
    T5_TRY(read_ids(file, family, hp, err));
out:
    return status;
}

t5_status t5_hparams_parse(const char *path, const char *text, size_t n_bytes, t5_hparams *out, t5_error *err)
{
    json_t *root = NULL;
    t5_status status = t5_json_parse(path, text, n_bytes, 0, &root, err);
    if (status != T5_OK) return status;
    t5_hparams hp = {0};
    status = read_all(&(config_file){.path = path, .root = root}, &hp, err);
    if (status == T5_OK) *out = hp;
    json_decref(root);
    return status;
}

/* generation_config.json has the ids that generate() goes by. Its start is taken; an end of its own is refused, since
 * sources have that of config.json. */
static t5_status load_generation_ids(const char *dir, t5_hparams *hp, t5_error *err)
{
    char path[PATH_MAX];
    json_t *root = NULL;
    int32_t eos_id = hp->eos_id;
    const int32_t id_max = hp->vocab_size - 1;
    t5_status status = T5_OK;
    T5_TRY(t5_json_load_in(dir, "generation_config.json", 0, path, &root, err));
    if (root == NULL) return T5_OK;
    const config_file file = {.path = path, .root = root};
    T5_TRY(read_int(&file, "decoder_start_token_id", 0, id_max, &hp->start_id, err));
    T5_TRY(read_eos(&file, id_max, &eos_id, err));
    if (eos_id != hp->eos_id)
        status =
            T5_FAIL(err, T5_ERR_FORMAT, "%s: eos_token_id: %d, but by config.json it is %d", path, eos_id, hp->eos_id);
out:
    json_decref(root);
    return status;
}

t5_status t5_hparams_load(const char *dir, t5_hparams *out, t5_error *err)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t n_bytes = 0;
    t5_hparams hp = {0};
    t5_status status = T5_OK;
    T5_TRY(t5_path_join(path, sizeof path, dir, "config.json", err));
    T5_TRY(t5_file_read(path, T5_JSON_FILE_MAX, &text, &n_bytes, err));
    T5_TRY(t5_hparams_parse(path, text, n_bytes, &hp, err));
    T5_TRY(load_generation_ids(dir, &hp, err));
    *out = hp;
out:
    free(text);
    return status;
}
