/* cli/translate.c: `t5 translate`: lines in one language in, lines in another out. The texts go the way that the
 * server's requests go: split into sentences, prompted, batched, joined. */
#include "cli/commands.h"
#include "cli/model_flags.h"
#include "cli/pipeline.h"

#include <semaphore.h>
#include <stdlib.h>

typedef struct {
    t5_translator *translator;
    const char *source, *target;
    t5_decoding decoding;
    bool has_max_new_tokens, is_pinned;
} context;

typedef struct {
    t5_text text;
    t5_translation *translation;
} work;

static void on_line_done(void *ctx)
{
    t5_line_done(ctx);
}

static t5_translation_request request_for(const context *c, const t5_text *text)
{
    return (t5_translation_request){.texts = text,
                                    .n_texts = 1,
                                    .decoding = c->decoding,
                                    .has_max_new_tokens = c->has_max_new_tokens,
                                    .is_pinned = c->is_pinned};
}

static t5_status start_line(void *ctx, t5_line *line, t5_error *err)
{
    context *c = ctx;
    work *w = calloc(1, sizeof *w);
    if (w == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", sizeof *w);
    line->work = w;
    w->text = (t5_text){.text = line->text, .n_bytes = line->n_bytes, .source = c->source, .target = c->target};
    t5_translation_request request = request_for(c, &w->text);
    request.on_done = on_line_done;
    request.ctx = line;
    return t5_translation_start(c->translator, &request, &w->translation, err);
}

static t5_status write_line(void *ctx, t5_line *line, FILE *out, t5_error *err)
{
    (void)ctx;
    work *w = line->work;
    if (line->error.status == T5_OK) t5_translation_finish(w->translation, &line->error);
    if (line->error.status != T5_OK) return t5_line_fail(line, &line->error, err);
    const t5_translated *translated = t5_translation_get(w->translation, 0);
    t5_line_put(out, translated->text, translated->n_bytes);
    return T5_OK;
}

static void cancel_line(void *ctx, t5_line *line)
{
    (void)ctx;
    work *w = line->work;
    if (w->translation != NULL) t5_translation_cancel(w->translation);
}

static void release_line(void *ctx, t5_line *line)
{
    (void)ctx;
    work *w = line->work;
    if (w == NULL) return;
    t5_translation_destroy(w->translation);
    free(w);
}

static void on_check_done(void *ctx)
{
    sem_post(ctx);
}

/* Translates the empty text, so that an unknown language is told before any input is read. */
static t5_status check_languages(const context *c, t5_error *err)
{
    sem_t done;
    t5_translation *translation = NULL;
    t5_text text = {.text = "", .source = c->source, .target = c->target};
    t5_translation_request request = request_for(c, &text);
    request.on_done = on_check_done;
    request.ctx = &done;
    sem_init(&done, 0, 0);
    t5_status status = t5_translation_start(c->translator, &request, &translation, err);
    if (status == T5_OK) {
        while (sem_wait(&done) != 0)
            continue;
        status = t5_translation_finish(translation, err);
        t5_translation_destroy(translation);
    }
    sem_destroy(&done);
    return status;
}

static t5_status run(context *c, const char *path, int32_t n_rows, t5_error *err)
{
    const t5_pipeline_options options = {
        .path = path,
        .n_lines = t5_pipeline_window(n_rows, c->decoding.num_beams),
        .engine = t5_translator_engine(c->translator),
        .ctx = c,
        .start = start_line,
        .write = write_line,
        .cancel = cancel_line,
        .release = release_line,
    };
    return t5_pipeline_run(&options, err);
}

/* Opens the model, then the languages and options are checked against it: what is wrong up to here is wrong use. */
static int translate(t5_model_flags *model, const t5_decoding_flags *flags, context *c, const char *path)
{
    t5_error err = {0};
    int exit_code = T5_EXIT_FAILED;
    t5_status status = t5_model_flags_open(model, &c->translator, &err);
    if (status != T5_OK) goto out;
    const t5_profile *profile = t5_translator_profile(c->translator);
    c->decoding = profile->defaults;
    c->has_max_new_tokens = t5_decoding_flags_has(flags, "max_new_tokens");
    c->is_pinned = flags->n_items > 0;
    status = t5_decoding_flags_apply(flags, t5_translator_hparams(c->translator)->vocab_size, &c->decoding, &err);
    if (status == T5_OK) status = check_languages(c, &err);
    if (status == T5_ERR_ARG) exit_code = T5_EXIT_USAGE;
    if (status == T5_OK) status = run(c, path, model->n_rows_max, &err);
out:
    t5_translator_close(c->translator);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail("translate", exit_code, &err);
}

int t5_command_translate(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    t5_decoding_flags decoding = {0};
    context c = {.source = "auto"};
    const char *path = NULL;
    static const char *const fixed[] = {"num_return_sequences"};
    const t5_flag flags[] = {
        {.name = "--source", .value_name = "CODE", .help = "language of the input (default auto)", .text = &c.source},
        {.name = "--target", .value_name = "CODE", .help = "language to translate into", .text = &c.target},
        {.name = "--shortlist",
         .help = "choose among the pieces of the folder's shortlist.CODE.json, see t5 shortlist",
         .is_on = &model.uses_shortlists},
    };
    const t5_command_line line = {
        .name = "translate",
        .operands = "[FILE]",
        .about =
            "Translates each line of FILE, or of standard input, from one language to another. Lines come out in\n"
            "order, as soon as they and those before them are finished; an empty line stays empty. t5 inspect lists\n"
            "the languages of a model. Long lines are split into sentences. A line that cannot be translated, such as\n"
            "one that is not UTF-8, ends the run.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = T5_MODEL_FLAGS,
        .decoding = &decoding,
        .fixed = fixed,
        .n_fixed = T5_COUNT(fixed),
        .operand = &path,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK || t5_model_flags_check(&model, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    if (c.target == NULL) {
        T5_FAIL(&err, T5_ERR_ARG, "--target is missing: the language to translate into");
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    }
    return translate(&model, &decoding, &c, path);
}
