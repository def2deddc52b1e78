/* cli/request_lines.c: see request_lines.h. */
#include "cli/request_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE_TOKENS 2048
#define TARGET_TOKENS 1024

typedef struct {
    const t5_request_source *source;
    t5_engine *engine;
    const t5_line_format *format;
    int64_t n_failed;
} context;

static void on_sequence_done(t5_sequence *seq, void *ctx)
{
    (void)seq;
    t5_line_done(ctx);
}

static t5_status start_line(void *ctx, t5_line *line, t5_error *err)
{
    context *c = ctx;
    t5_request *r = NULL;
    t5_status status = c->format->parse(c->source, line->text, line->n_bytes, &r, err);
    if (status != T5_OK) return status;
    line->work = r;
    r->seq.on_done = on_sequence_done;
    r->seq.ctx = line;
    return t5_engine_submit(c->engine, &r->seq, err);
}

t5_status t5_json_put(FILE *out, json_t *reply, t5_error *err)
{
    char *text = json_dumps(reply, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(reply);
    if (text == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "a reply could not be written as JSON");
    bool is_written = fputs(text, out) >= 0 && putc('\n', out) != EOF;
    free(text);
    return is_written ? T5_OK : T5_FAIL(err, T5_ERR_IO, "output: %s", strerror(errno));
}

/* The text may quote bytes of the input, which need not be UTF-8. */
static json_t *error_reply(const t5_error *error)
{
    json_t *reply = json_pack("{s:s}", "error", error->text);
    return reply != NULL ? reply : json_pack("{s:s}", "error", t5_status_name(error->status));
}

static t5_status write_line(void *ctx, t5_line *line, FILE *out, t5_error *err)
{
    context *c = ctx;
    t5_request *r = line->work;
    t5_error *error = &line->error;
    if (error->status == T5_OK && r->seq.error.status != T5_OK) *error = r->seq.error;
    if (error->status == T5_OK) return c->format->write(c->source, r, out, err);
    if (!c->format->is_json) return t5_line_fail(line, error, err);
    c->n_failed++;
    return t5_json_put(out, error_reply(error), err);
}

static void cancel_line(void *ctx, t5_line *line)
{
    (void)ctx;
    t5_request *r = line->work;
    atomic_store(&r->seq.is_cancelled, true);
}

static void release_line(void *ctx, t5_line *line)
{
    (void)ctx;
    t5_request_destroy(line->work);
}

void t5_request_lines_fit(t5_model_flags *model)
{
    if (model->src_len_max == 0) model->src_len_max = SOURCE_TOKENS;
    if (model->max_target_tokens == 0) model->max_target_tokens = TARGET_TOKENS;
}

t5_status t5_request_lines_run(const t5_request_source *s, t5_engine *engine, const t5_line_format *format,
                               const char *path, int32_t n_lines, t5_error *err)
{
    context c = {.source = s, .engine = engine, .format = format};
    const t5_pipeline_options options = {
        .path = path,
        .n_lines = n_lines,
        .engine = engine,
        .ctx = &c,
        .start = start_line,
        .write = write_line,
        .cancel = cancel_line,
        .release = release_line,
    };
    t5_status status = t5_pipeline_run(&options, err);
    if (status == T5_OK && c.n_failed > 0)
        status = T5_FAIL(err, T5_ERR_ARG, "requests answered by an error: %lld", (long long)c.n_failed);
    return status;
}
