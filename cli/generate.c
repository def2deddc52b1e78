/* cli/generate.c: `t5 generate`: text to text as the model was trained, without a template, and JSON requests with
 * every option of the decoder. The defaults are Hugging Face's: decoding.def, then generation_config.json, then the
 * flags; a translation profile (t5serve.json) has no say here. */
#include "cli/commands.h"
#include "cli/request_lines.h"

#include <stdlib.h>

static t5_status write_text(const t5_request_source *s, const t5_request *r, FILE *out, t5_error *err)
{
    for (int32_t i = 0; i < r->seq.n_outputs; i++) {
        const t5_output *output = &r->seq.outputs[i];
        char *text = NULL;
        size_t n_bytes = 0;
        t5_status status = t5_tokenizer_decode(t5_translator_tokenizer(s->translator), output->ids, output->n_ids,
                                               &text, &n_bytes, err);
        if (status != T5_OK) return status;
        t5_line_put(out, text, n_bytes);
        free(text);
    }
    return T5_OK;
}

static t5_status write_json(const t5_request_source *s, const t5_request *r, FILE *out, t5_error *err)
{
    json_t *reply = NULL;
    t5_status status = t5_request_generate_reply(s, r, &reply, err);
    return status == T5_OK ? t5_json_put(out, reply, err) : status;
}

static const t5_line_format text_format = {.parse = t5_request_generate_text, .write = write_text};
static const t5_line_format json_format = {.parse = t5_request_generate_json, .write = write_json, .is_json = true};

static int generate(t5_model_flags *model, const t5_decoding_flags *flags, const t5_line_format *format,
                    const char *path)
{
    t5_error err = {0};
    t5_translator *translator = NULL;
    int exit_code = T5_EXIT_FAILED;
    t5_request_source source = {.is_max_given = t5_decoding_flags_has(flags, "max_new_tokens")};
    t5_request_lines_fit(model);
    t5_status status = t5_model_flags_open(model, &translator, &err);
    if (status != T5_OK) goto out;
    source.translator = translator;
    t5_decoding_init(&source.decoding);
    T5_TRY(t5_decoding_load(model->dir, &source.decoding, &err));
    status = t5_decoding_flags_apply(flags, t5_translator_hparams(translator)->vocab_size, &source.decoding, &err);
    if (status != T5_OK) {
        exit_code = T5_EXIT_USAGE;
        goto out;
    }
    T5_TRY(t5_request_lines_run(&source, t5_translator_engine(translator), format, path,
                                t5_pipeline_window(model->n_rows_max, source.decoding.num_beams), &err));
out:
    t5_translator_close(translator);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail("generate", exit_code, &err);
}

int t5_command_generate(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    t5_decoding_flags decoding = {0};
    const char *path = NULL;
    bool is_json = false;
    const t5_flag flags[] = {{.name = "--json", .help = "JSON requests and replies, one a line", .is_on = &is_json}};
    const t5_command_line line = {
        .name = "generate",
        .operands = "[FILE]",
        .about =
            "Runs each line of FILE, or of standard input, through the model as it is, and prints the generated text;\n"
            "with --num-return-sequences each result has its own line. A line that cannot be done ends the run.\n"
            "With --json each line is a request\n"
            "  {\"text\": \"...\"} or {\"input_ids\": [...]}, decoding options under their Hugging Face names,\n"
            "  \"decoder_input_ids\": [...] to force the start of the output (the start token may be left out),\n"
            "  \"token_logprobs\": true for the log-probability of each token,\n"
            "  \"alignment\": true for the index into input_ids that each token belongs to\n"
            "and each reply, in the same order,\n"
            "  {\"sequences\": [[...]], \"texts\": [\"...\"], \"scores\": [...]}\n"
            "where ids leave out the start token and include the end of sequence. A request that cannot be done gets\n"
            "{\"error\": \"...\"}, the rest goes on, and the exit code is 1.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = T5_MODEL_FLAGS,
        .decoding = &decoding,
        .operand = &path,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK || t5_model_flags_check(&model, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    return generate(&model, &decoding, is_json ? &json_format : &text_format, path);
}
