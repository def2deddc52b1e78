/* cli/request_lines.h: what `t5 generate` and `t5 score` share: each line becomes a request, the engine runs it, its
 * reply is written. In JSON a bad line is answered by {"error": "..."} and the rest goes on; otherwise it ends the run.
 */
#pragma once
#include "cli/model_flags.h"
#include "cli/pipeline.h"
#include "cli/request.h"

typedef struct {
    t5_status (*parse)(const t5_request_source *s, const char *line, size_t n_bytes, t5_request **out, t5_error *err);
    t5_status (*write)(const t5_request_source *s, const t5_request *r, FILE *out, t5_error *err);
    bool is_json;
} t5_line_format;

/* JSON on one line, as every reply is written. Takes over `reply`. */
t5_status t5_json_put(FILE *out, json_t *reply, t5_error *err);
/* Lines here are whole texts, not sentences: makes room for long ones where the user set no limit. */
void t5_request_lines_fit(t5_model_flags *model);
/* T5_ERR_ARG says how many requests were answered by an error, after all of them. */
t5_status t5_request_lines_run(const t5_request_source *s, t5_engine *engine, const t5_line_format *format,
                               const char *path, int32_t n_lines, t5_error *err);
