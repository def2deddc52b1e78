/* cli/score.c: `t5 score`: how probable the model finds given targets. */
#include "cli/commands.h"
#include "cli/request_lines.h"

static t5_status write_text(const t5_request_source *s, const t5_request *r, FILE *out, t5_error *err)
{
    (void)s;
    if (fprintf(out, "%.6f\n", (double)r->seq.outputs[0].score) < 0) return T5_FAIL(err, T5_ERR_IO, "output");
    return T5_OK;
}

static t5_status write_json(const t5_request_source *s, const t5_request *r, FILE *out, t5_error *err)
{
    (void)s;
    json_t *reply = NULL;
    t5_status status = t5_request_score_reply(r, &reply, err);
    return status == T5_OK ? t5_json_put(out, reply, err) : status;
}

static const t5_line_format text_format = {.parse = t5_request_score_text, .write = write_text};
static const t5_line_format json_format = {.parse = t5_request_score_json, .write = write_json, .is_json = true};

static int score(t5_model_flags *model, const t5_line_format *format, const char *path)
{
    t5_error err = {0};
    t5_translator *translator = NULL;
    t5_request_source source = {0};
    t5_request_lines_fit(model);
    t5_status status = t5_model_flags_open(model, &translator, &err);
    if (status != T5_OK) goto out;
    source.translator = translator;
    t5_decoding_init(&source.decoding);
    T5_TRY(t5_request_lines_run(&source, t5_translator_engine(translator), format, path,
                                t5_pipeline_window(model->n_rows_max, 1), &err));
out:
    t5_translator_close(translator);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail("score", T5_EXIT_FAILED, &err);
}

int t5_command_score(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    const char *path = NULL;
    bool is_json = false;
    const t5_flag flags[] = {{.name = "--json", .help = "JSON requests and replies, one a line", .is_on = &is_json}};
    const t5_command_line line = {
        .name = "score",
        .operands = "[FILE]",
        .about =
            "Prints the log-probability of a target given its source, for each line \"source TAB target\" of FILE, or\n"
            "of standard input. A line that cannot be scored ends the run. With --json each line is a request\n"
            "  {\"text\": \"...\" or \"input_ids\": [...], \"target\": \"...\" or \"target_ids\": [...]}\n"
            "and each reply {\"token_logprobs\": [...], \"score\": their sum}. A target text is scored with its end\n"
            "of sequence; target_ids are scored as they are, and do not include the start token. A request that\n"
            "cannot be done gets {\"error\": \"...\"}, the rest goes on, and the exit code is 1.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = T5_MODEL_FLAGS,
        .operand = &path,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK || t5_model_flags_check(&model, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    return score(&model, is_json ? &json_format : &text_format, path);
}
