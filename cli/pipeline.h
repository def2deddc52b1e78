/* cli/pipeline.h: lines in, replies out in the same order, with several lines in flight so that the engine can batch
 * them. A reader thread starts each line's work; the calling thread writes each reply when its turn has come. Output is
 * flushed whenever the next reply is not ready, so that a program that sends one line and waits gets its reply. */
#pragma once
#include "engine/engine.h"

#include <stdio.h>

typedef struct t5_pipeline t5_pipeline;

typedef struct {
    int64_t number; /* from 1 */
    char *text;     /* without the newline, NUL-terminated */
    size_t n_bytes;
    t5_error error; /* what start() answered */
    void *work;     /* the command's */
    t5_pipeline *pipeline;
    int32_t n_pending; /* guarded by the pipeline's mutex */
} t5_line;

typedef struct {
    const char *path;  /* NULL or "-": standard input */
    int32_t n_lines;   /* in flight at most; at least 1 */
    t5_engine *engine; /* for the rate in the progress line; NULL: no progress line */
    void *ctx;
    /* Begins the line's work and keeps it in line->work. On T5_OK t5_line_done() is called once, from any thread, maybe
     * before this returns. Otherwise *err becomes line->error. On the reader thread. */
    t5_status (*start)(void *ctx, t5_line *line, t5_error *err);
    /* Writes the reply of a line that is done, or deals with line->error. An error ends the run. */
    t5_status (*write)(void *ctx, t5_line *line, FILE *out, t5_error *err);
    /* The run has ended early: give the work up. */
    void (*cancel)(void *ctx, t5_line *line);
    /* Frees line->work, which is NULL when start() failed before it was set. After t5_line_done(). */
    void (*release)(void *ctx, t5_line *line);
} t5_pipeline_options;

/* Runs until the input ends or a call fails; replies go to stdout. */
t5_status t5_pipeline_run(const t5_pipeline_options *options, t5_error *err);
void t5_line_done(t5_line *line);
/* Makes "FILE:LINE: " + the text of `cause` the error. Returns its status. */
t5_status t5_line_fail(const t5_line *line, const t5_error *cause, t5_error *err);
/* Writes one reply and a newline; newlines inside become spaces, so that a line stays a line. */
void t5_line_put(FILE *out, const char *text, size_t n_bytes);
/* Lines in flight that keep a batch of `n_rows` busy when each line takes `num_beams` rows. */
int32_t t5_pipeline_window(int32_t n_rows, int32_t num_beams);
