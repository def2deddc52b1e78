/* tests/test_hparams.c: config.json is read as transformers reads it, and every absurd value is named. */
#include "model/hparams.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

/* Claim: every fixture's config.json is understood. Method: the values by hand, from the files. */
static void fixtures_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *folder;
        t5_hparams hp;
    } rows[] = {
        {"t5-v1.0", {"t5", 48, 16, 96, 4, 2, 2, 1024, 32, 128, 1e-6f, T5_ACT_RELU, false, true, true, false, 0, 1, 0}},
        {"t5-v1.1",
         {"t5", 48, 16, 96, 3, 2, 3, 1024, 32, 128, 1e-6f, T5_ACT_GELU_TANH, true, false, false, false, 0, 1, 0}},
        {"flan-small-shape",
         {"t5", 64, 8, 96, 6, 3, 2, 1024, 32, 128, 1e-6f, T5_ACT_GELU_TANH, true, false, false, false, 0, 1, 0}},
        {"mt5",
         {"mt5", 48, 16, 96, 4, 2, 2, 1344, 32, 128, 1e-6f, T5_ACT_GELU_TANH, true, false, false, false, 0, 1, 0}},
        {"umt5",
         {"umt5", 48, 16, 96, 4, 2, 2, 1536, 32, 128, 1e-6f, T5_ACT_GELU_TANH, true, false, false, true, 0, 1, 0}},
        {"byt5",
         {"t5", 48, 16, 96, 4, 4, 2, 384, 32, 128, 1e-6f, T5_ACT_GELU_TANH, true, false, false, false, 0, 1, 0}},
        {"madlad",
         {"t5", 48, 32, 96, 4, 2, 2, 1280, 32, 128, 1e-6f, T5_ACT_GELU_TANH, true, false, false, false, 1, 2, 0}},
        {"silu-buckets",
         {"t5", 48, 16, 96, 4, 2, 2, 1024, 16, 40, 1e-6f, T5_ACT_SILU, true, true, true, false, 0, 1, 0}},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        char dir[512];
        t5_error err = {0};
        t5_hparams hp;
        const t5_hparams *want = &rows[i].hp;
        snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, rows[i].folder);
        assert_int_equal(t5_hparams_load(dir, &hp, &err), T5_OK);
        assert_string_equal(hp.family, want->family);
        const int32_t got_numbers[] = {hp.d_model,          hp.d_kv,         hp.d_ff,       hp.n_heads,
                                       hp.n_enc_layers,     hp.n_dec_layers, hp.vocab_size, hp.rel_buckets,
                                       hp.rel_distance_max, hp.pad_id,       hp.eos_id,     hp.start_id};
        const int32_t want_numbers[] = {want->d_model,          want->d_kv,         want->d_ff,       want->n_heads,
                                        want->n_enc_layers,     want->n_dec_layers, want->vocab_size, want->rel_buckets,
                                        want->rel_distance_max, want->pad_id,       want->eos_id,     want->start_id};
        assert_memory_equal(got_numbers, want_numbers, sizeof got_numbers);
        assert_int_equal(hp.act, want->act);
        assert_int_equal(hp.is_gated, want->is_gated);
        assert_int_equal(hp.is_tied, want->is_tied);
        assert_int_equal(hp.scales_decoder_out, want->scales_decoder_out);
        assert_int_equal(hp.has_layer_bias, want->has_layer_bias);
        assert_true(hp.norm_eps == want->norm_eps);
    }
}

#define SIZES "\"vocab_size\":100,\"d_model\":8,\"d_kv\":4,\"d_ff\":16,\"num_heads\":2,\"num_layers\":3"

static t5_status parse(const char *text, t5_hparams *out, t5_error *err)
{
    t5_error_clear(err);
    return t5_hparams_parse("x/config.json", text, strlen(text), out, err);
}

static t5_hparams parse_good(const char *text)
{
    t5_error err;
    t5_hparams hp = {0};
    if (parse(text, &hp, &err) != T5_OK) fail_msg("%s", err.text);
    return hp;
}

/* Claim: what a file leaves out, or sets to null, takes the default of its family. Method: sizes only. */
static void defaults_are_the_familys(void **state)
{
    (void)state;
    t5_hparams t5 = parse_good("{\"model_type\":\"t5\"," SIZES "}");
    assert_int_equal(t5.n_dec_layers, 3);
    assert_int_equal(t5.rel_buckets, 32);
    assert_int_equal(t5.rel_distance_max, 128);
    assert_true(t5.norm_eps == 1e-6f);
    assert_int_equal(t5.act, T5_ACT_RELU);
    assert_true(!t5.is_gated && t5.is_tied && t5.scales_decoder_out && !t5.has_layer_bias);
    assert_true(t5.pad_id == 0 && t5.eos_id == 1 && t5.start_id == 0);
    t5_hparams mt5 = parse_good("{\"model_type\":\"mt5\"," SIZES "}");
    assert_true(mt5.act == T5_ACT_GELU_TANH && mt5.is_gated && !mt5.is_tied && !mt5.scales_decoder_out);
    t5_hparams umt5 = parse_good("{\"model_type\":\"umt5\"," SIZES "}");
    assert_true(umt5.act == T5_ACT_GELU_TANH && umt5.is_gated && umt5.is_tied && umt5.has_layer_bias);
    t5_hparams nulls = parse_good(
        "{\"model_type\":\"t5\"," SIZES ",\"num_decoder_layers\":null,\"pad_token_id\":3,\"eos_token_id\":null,"
        "\"decoder_start_token_id\":null,\"layer_norm_epsilon\":null,\"tie_word_embeddings\":null,\"extra\":[{}]}");
    assert_true(nulls.n_dec_layers == 3 && nulls.eos_id == 1 && nulls.start_id == 3 && nulls.is_tied);
    assert_int_equal(parse_good("{\"model_type\":\"mt5\",\"pad_token_id\":3," SIZES "}").start_id, 0);
    assert_int_equal(parse_good("{\"model_type\":\"t5\",\"eos_token_id\":[7,1]," SIZES "}").eos_id, 7);
}

/* Claim: the head is scaled when it is tied, unless scale_decoder_outputs says otherwise. */
static void head_follows_newer_key(void **state)
{
    (void)state;
    t5_hparams hp = parse_good("{\"model_type\":\"t5\",\"tie_word_embeddings\":false," SIZES "}");
    assert_true(!hp.is_tied && !hp.scales_decoder_out);
    hp = parse_good("{\"model_type\":\"t5\",\"scale_decoder_outputs\":false," SIZES "}");
    assert_true(hp.is_tied && !hp.scales_decoder_out);
    hp = parse_good("{\"model_type\":\"t5\",\"tie_word_embeddings\":false,\"scale_decoder_outputs\":true," SIZES "}");
    assert_true(!hp.is_tied && hp.scales_decoder_out);
}

/* Claim: transformers 5 says of every model that it is tied: the file decides then, and mT5 is never scaled. What
 * `t5 quantize` says is true of either. */
static void files_of_transformers_5_decide(void **state)
{
    (void)state;
#define TIED_BY(version) "\"tie_word_embeddings\":true,\"transformers_version\":" version "," SIZES
#define QUANTIZED ",\"quantization_config\":{\"quant_method\":\"t5serve\",\"bits\":8}"
    static const struct {
        const char *text;
        bool is_tied, scales;
    } rows[] = {
        {"{\"model_type\":\"t5\"," TIED_BY("\"4.57.6\"") "}", true, true},
        {"{\"model_type\":\"t5\"," TIED_BY("\"5.24.0\"") "}", false, true},
        {"{\"model_type\":\"t5\",\"scale_decoder_outputs\":false," TIED_BY("\"5.0.0rc1\"") "}", false, false},
        {"{\"model_type\":\"umt5\"," TIED_BY("\"10.0\"") "}", false, true},
        {"{\"model_type\":\"mt5\"," TIED_BY("\"4.57.6\"") "}", true, true},
        {"{\"model_type\":\"mt5\"," TIED_BY("\"5.24.0\"") "}", false, false},
        {"{\"model_type\":\"t5\"," TIED_BY("\"5.24.0\"") QUANTIZED "}", true, true},
        {"{\"model_type\":\"mt5\"," TIED_BY("\"5.24.0\"") QUANTIZED "}", true, false},
        {"{\"model_type\":\"t5\"," TIED_BY("5") "}", true, true},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        const t5_hparams hp = parse_good(rows[i].text);
        if (hp.is_tied != rows[i].is_tied || hp.scales_decoder_out != rows[i].scales) fail_msg("%s", rows[i].text);
    }
}

/* Claim: feed_forward_proj, dense_act_fn and is_gated_act mean what they mean in T5Config. */
static void activations_are_transformers(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        t5_act act;
        bool is_gated;
    } rows[] = {
        {"\"feed_forward_proj\":\"relu\"", T5_ACT_RELU, false},
        {"\"feed_forward_proj\":\"gelu\"", T5_ACT_GELU, false},
        {"\"feed_forward_proj\":\"gelu_new\"", T5_ACT_GELU_TANH, false},
        {"\"feed_forward_proj\":\"silu\"", T5_ACT_SILU, false},
        {"\"feed_forward_proj\":\"gated-gelu\"", T5_ACT_GELU_TANH, true},
        {"\"feed_forward_proj\":\"gated-gelu_new\"", T5_ACT_GELU_TANH, true},
        {"\"feed_forward_proj\":\"gated-silu\"", T5_ACT_SILU, true},
        {"\"feed_forward_proj\":\"gated-relu\"", T5_ACT_RELU, true},
        {"\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\"", T5_ACT_GELU, true},
        {"\"feed_forward_proj\":\"relu\",\"is_gated_act\":true", T5_ACT_RELU, true},
        {"\"dense_act_fn\":\"silu\"", T5_ACT_SILU, false},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"model_type\":\"t5\",%s," SIZES "}", rows[i].keys);
        t5_hparams hp = parse_good(text);
        assert_int_equal(hp.act, rows[i].act);
        assert_int_equal(hp.is_gated, rows[i].is_gated);
    }
}

/* Claim: a wrong value gives T5_ERR_FORMAT with file, key, value and what is allowed. Method: each key with each kind
 * of nonsense; `key` replaces or adds one member of a good file. */
static void absurd_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *text;
    } rows[] = {
        {"model_type", "\"bert\"", "not a T5 model: model_type \"bert\""},
        {"model_type", "null", "not a T5 model: model_type is missing"},
        {"model_type", "5", "model_type: 5 is not allowed, allowed is a string"},
        {"is_encoder_decoder", "false", "is_encoder_decoder is false"},
        {"is_encoder_decoder", "\"yes\"", "is_encoder_decoder: \"yes\""},
        {"vocab_size", "null", "vocab_size is missing"},
        {"vocab_size", "0", "vocab_size: 0 is not allowed, allowed is an integer from 1 to 1048576"},
        {"vocab_size", "1048577", "vocab_size: 1048577"},
        {"d_model", "-4", "d_model: -4"},
        {"d_model", "8.0", "d_model: 8"},
        {"d_model", "\"8\"", "d_model: \"8\""},
        {"d_model", "[8]", "d_model: a list of 1"},
        {"d_kv", "0", "d_kv: 0"},
        {"d_kv", "1048576", "num_heads x d_kv"},
        {"d_ff", "9223372036854775807", "d_ff: 9223372036854775807"},
        {"d_ff", "99999999999999999999", "not valid JSON"},
        {"num_heads", "{}", "num_heads: an object"},
        {"num_heads", "4097", "num_heads: 4097"},
        {"num_layers", "129", "num_layers: 129 is not allowed, allowed is an integer from 1 to 128"},
        {"num_layers", "true", "num_layers: true"},
        {"num_decoder_layers", "0", "num_decoder_layers: 0"},
        {"relative_attention_num_buckets", "2", "relative_attention_num_buckets: 2"},
        {"relative_attention_num_buckets", "256", "relative_attention_max_distance is missing; 256 buckets"},
        {"relative_attention_max_distance", "16", "relative_attention_max_distance: 16"},
        {"layer_norm_epsilon", "0", "layer_norm_epsilon: 0"},
        {"layer_norm_epsilon", "-1e-6", "layer_norm_epsilon: -1e-06"},
        {"layer_norm_epsilon", "\"small\"", "layer_norm_epsilon: \"small\""},
        {"layer_norm_epsilon", "1e999", "not valid JSON"},
        {"layer_norm_epsilon", "NaN", "not valid JSON at line 1"},
        {"feed_forward_proj", "\"tanh\"", "feed_forward_proj: unknown activation \"tanh\""},
        {"feed_forward_proj", "\"gated-gated-gelu\"", "unknown activation \"gated-gelu\""},
        {"feed_forward_proj", "1", "feed_forward_proj: 1"},
        {"dense_act_fn", "\"x\\ny\"", "dense_act_fn: unknown activation \"x\\x0ay\""},
        {"is_gated_act", "1", "is_gated_act: 1"},
        {"tie_word_embeddings", "\"true\"", "tie_word_embeddings: \"true\""},
        {"scale_decoder_outputs", "0", "scale_decoder_outputs: 0"},
        {"pad_token_id", "-1", "pad_token_id: -1"},
        {"eos_token_id", "100", "eos_token_id: 100 is not allowed, allowed is an integer from 0 to 99"},
        {"eos_token_id", "[]", "eos_token_id is missing"},
        {"eos_token_id", "[\"</s>\"]", "eos_token_id: \"</s>\""},
        {"decoder_start_token_id", "1e3", "decoder_start_token_id: 1000"},
        {"quantization_config", "8", "quantization_config.quant_method is missing"},
        {"quantization_config", "{}", "quantization_config.quant_method is missing, allowed is \"t5serve\""},
        {"quantization_config", "{\"quant_method\":\"gptq\"}", "quantization_config.quant_method: \"gptq\""},
        {"quantization_config", "{\"quant_method\":\"t5serve\",\"bits\":2}", "quantization_config.bits: 2"},
        {"quantization_config", "{\"quant_method\":\"t5serve\"}", "quantization_config.bits is missing"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        char text[512];
        t5_error err;
        t5_hparams hp;
        /* the last of two equal keys counts, as in Python */
        snprintf(text, sizeof text, "{\"model_type\":\"t5\"," SIZES ",\"%s\":%s}", rows[i].key, rows[i].value);
        assert_int_equal(parse(text, &hp, &err), T5_ERR_FORMAT);
        if (strstr(err.text, rows[i].text) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, rows[i].text);
        assert_ptr_equal(strstr(err.text, "x/config.json: "), err.text);
        assert_null(strchr(err.text, '\n'));
    }
}

/* Claim: what is not a JSON object, and a vocabulary too small for the default eos, is refused; a missing file is an
 * input error. */
static void other_files_are_refused(void **state)
{
    (void)state;
    t5_error err;
    t5_hparams hp;
    static const char *const texts[] = {"",
                                        "[]",
                                        "3",
                                        "{",
                                        "{\"model_type\":\"t5\"} x",
                                        "\xff\xfe{}",
                                        ("{\"model_type\":\"t5\",\"vocab_size\":1,\"d_model\":8,\"d_kv\":4,\"d_ff\":16,"
                                         "\"num_heads\":2,\"num_layers\":3}")};
    for (size_t i = 0; i < T5_COUNT(texts); i++)
        assert_int_equal(parse(texts[i], &hp, &err), T5_ERR_FORMAT);
    t5_error_clear(&err);
    assert_int_equal(t5_hparams_load("/nonexistent", &hp, &err), T5_ERR_IO);
    assert_string_equal(err.text, "/nonexistent/config.json: No such file or directory");
}

/* Claim: the start is that of generation_config.json, by which generate() goes; it may not have an end of its own. */
static void generation_config_has_the_start(void **state)
{
    const char *dir = *state;
    t5_error err = {0};
    t5_hparams hp;
    file_write_text(dir, "config.json", "{\"model_type\":\"t5\",\"decoder_start_token_id\":0," SIZES "}");
    assert_int_equal(t5_hparams_load(dir, &hp, &err), T5_OK);
    assert_int_equal(hp.start_id, 0);
    file_write_text(dir, "generation_config.json", "{\"decoder_start_token_id\":7,\"eos_token_id\":[1]}");
    assert_int_equal(t5_hparams_load(dir, &hp, &err), T5_OK);
    assert_true(hp.start_id == 7 && hp.eos_id == 1);
    file_write_text(dir, "generation_config.json", "{\"decoder_start_token_id\":100}");
    assert_int_equal(t5_hparams_load(dir, &hp, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "/generation_config.json: decoder_start_token_id: 100 is not allowed"));
    t5_error_clear(&err);
    file_write_text(dir, "generation_config.json", "{\"eos_token_id\":2}");
    assert_int_equal(t5_hparams_load(dir, &hp, &err), T5_ERR_FORMAT);
    assert_non_null(strstr(err.text, "/generation_config.json: eos_token_id: 2, but by config.json it is 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_are_read),
        cmocka_unit_test(defaults_are_the_familys),
        cmocka_unit_test(head_follows_newer_key),
        cmocka_unit_test(files_of_transformers_5_decide),
        cmocka_unit_test(activations_are_transformers),
        cmocka_unit_test(absurd_values_are_named),
        cmocka_unit_test(other_files_are_refused),
        IN_FOLDER(generation_config_has_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
