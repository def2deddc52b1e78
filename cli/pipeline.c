/* cli/pipeline.c: see pipeline.h. Lines in flight lie in a ring; the reader fills it at n_read, the writer empties it
 * at n_written. A line is done when start() has returned and, if it succeeded, t5_line_done() was called. */
#include "cli/pipeline.h"
#include "base/assert.h"
#include "base/clock.h"
#include "cli/line_reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_AFTER_MS 2000
#define PROGRESS_EVERY_MS 500
#define WINDOW_MIN 8
#define WINDOW_MAX 4096

struct t5_pipeline {
    t5_pipeline_options options;
    t5_line_reader *reader;
    t5_line *ring;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int64_t n_read, n_written; /* guarded by mutex, as all below */
    bool is_at_end;            /* the reader has ended */
    bool is_stopping;          /* the reader must end */
    t5_error read_error;
    /* The writer's own. */
    int output_errno; /* why a flush failed; 0: none has */
    bool shows_progress;
    int64_t started_ms, shown_ms;
};

int32_t t5_pipeline_window(int32_t n_rows, int32_t num_beams)
{
    int32_t n_lines = 2 * n_rows / num_beams;
    return n_lines < WINDOW_MIN ? WINDOW_MIN : n_lines > WINDOW_MAX ? WINDOW_MAX : n_lines;
}

void t5_line_done(t5_line *line)
{
    t5_pipeline *p = line->pipeline;
    pthread_mutex_lock(&p->mutex);
    T5_ASSERT(line->n_pending > 0);
    if (--line->n_pending == 0) pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

t5_status t5_line_fail(const t5_line *line, const t5_error *cause, t5_error *err)
{
    const char *name = t5_line_reader_name(line->pipeline->reader);
    return T5_FAIL(err, cause->status, "%s:%lld: %s", name, (long long)line->number, cause->text);
}

void t5_line_put(FILE *out, const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        putc(text[i] == '\n' ? ' ' : text[i], out);
    putc('\n', out);
}

/* Waits for a free place in the ring. False when the run is stopping. */
static bool wait_for_room(t5_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    while (!p->is_stopping && p->n_read - p->n_written == p->options.n_lines)
        pthread_cond_wait(&p->changed, &p->mutex);
    bool has_room = !p->is_stopping;
    pthread_mutex_unlock(&p->mutex);
    return has_room;
}

/* Reads and starts one line. False at the end of the input. */
static bool read_line(t5_pipeline *p, t5_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    if (t5_line_reader_next(p->reader, &text, &n_bytes, err) != T5_OK || text == NULL) return false;
    t5_line *line = &p->ring[p->n_read % p->options.n_lines]; /* only this thread changes n_read */
    *line = (t5_line){.number = p->n_read + 1, .text = text, .n_bytes = n_bytes, .pipeline = p, .n_pending = 2};
    pthread_mutex_lock(&p->mutex);
    p->n_read++;
    pthread_mutex_unlock(&p->mutex);
    if (p->options.start(p->options.ctx, line, &line->error) != T5_OK) t5_line_done(line);
    t5_line_done(line);
    return true;
}

static void *read_main(void *argument)
{
    t5_pipeline *p = argument;
    t5_error err = {0};
    while (wait_for_room(p) && read_line(p, &err))
        continue;
    pthread_mutex_lock(&p->mutex);
    p->is_at_end = true;
    p->read_error = err;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static bool is_settled(const t5_pipeline *p)
{
    if (p->n_written == p->n_read) return p->is_at_end;
    return p->ring[p->n_written % p->options.n_lines].n_pending == 0;
}

/* A failure stays in stdout's error flag; its reason would be lost. */
static void flush_output(t5_pipeline *p)
{
    if (fflush(stdout) != 0 && p->output_errno == 0) p->output_errno = errno;
}

static t5_status output_status(const t5_pipeline *p, t5_error *err)
{
    if (!ferror(stdout)) return T5_OK;
    return T5_FAIL(err, T5_ERR_IO, "stdout: %s", strerror(p->output_errno != 0 ? p->output_errno : errno));
}

/* The next line once it is done, or NULL at the end. Flushes the output before it waits. */
static t5_line *next_done(t5_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    if (!is_settled(p)) {
        pthread_mutex_unlock(&p->mutex);
        flush_output(p);
        pthread_mutex_lock(&p->mutex);
    }
    while (!is_settled(p))
        pthread_cond_wait(&p->changed, &p->mutex);
    t5_line *line = p->n_written == p->n_read ? NULL : &p->ring[p->n_written % p->options.n_lines];
    pthread_mutex_unlock(&p->mutex);
    return line;
}

static void retire(t5_pipeline *p, t5_line *line)
{
    p->options.release(p->options.ctx, line);
    free(line->text);
    pthread_mutex_lock(&p->mutex);
    p->n_written++;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

static void show_progress(t5_pipeline *p, bool is_last)
{
    int64_t now_ms = t5_clock_ms();
    if (!p->shows_progress || now_ms - p->started_ms < PROGRESS_AFTER_MS) return;
    if (!is_last && now_ms - p->shown_ms < PROGRESS_EVERY_MS) return;
    p->shown_ms = now_ms;
    t5_engine_stats stats;
    t5_engine_stats_get(p->options.engine, &stats);
    double seconds = (double)(now_ms - p->started_ms) / 1000.0;
    fprintf(stderr, "\r%lld lines, %.1f lines/s, %.0f tokens/s, %.0f s%s", (long long)p->n_written,
            (double)p->n_written / seconds, (double)stats.n_target_tokens / seconds, seconds, is_last ? "\n" : " ");
    fflush(stderr);
}

static t5_status write_lines(t5_pipeline *p, t5_error *err)
{
    for (;;) {
        t5_line *line = next_done(p);
        if (line == NULL) return T5_OK;
        t5_status status = p->options.write(p->options.ctx, line, stdout, err);
        if (status == T5_OK) status = output_status(p, err);
        retire(p, line);
        if (status != T5_OK) return status;
        show_progress(p, false);
    }
}

/* Ends the reader and gives up what is in flight. */
static void give_up(t5_pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->is_stopping = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    t5_line_reader_stop(p->reader);
}

static void drain(t5_pipeline *p)
{
    for (int64_t i = p->n_written; i < p->n_read; i++) {
        t5_line *line = &p->ring[i % p->options.n_lines];
        if (line->work != NULL) p->options.cancel(p->options.ctx, line);
    }
    for (t5_line *line = next_done(p); line != NULL; line = next_done(p))
        retire(p, line);
}

static t5_status run(t5_pipeline *p, t5_error *err)
{
    pthread_t thread;
    int code = pthread_create(&thread, NULL, read_main, p);
    if (code != 0) return T5_FAIL(err, T5_ERR_NOMEM, "reader thread: %s", strerror(code));
    t5_status status = write_lines(p, err);
    if (status != T5_OK) give_up(p);
    pthread_join(thread, NULL);
    drain(p);
    show_progress(p, true);
    if (status == T5_OK && p->read_error.status != T5_OK) {
        *err = p->read_error;
        status = err->status;
    }
    flush_output(p);
    return status == T5_OK ? output_status(p, err) : status;
}

t5_status t5_pipeline_run(const t5_pipeline_options *options, t5_error *err)
{
    T5_ASSERT(options->n_lines > 0);
    t5_pipeline p = {.options = *options, .started_ms = t5_clock_ms()};
    p.shows_progress = options->engine != NULL && isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO);
    t5_status status = t5_line_reader_open(options->path, &p.reader, err);
    if (status != T5_OK) return status;
    p.ring = calloc((size_t)options->n_lines, sizeof *p.ring);
    if (p.ring == NULL) {
        t5_line_reader_close(p.reader);
        return T5_FAIL(err, T5_ERR_NOMEM, "%d lines in flight", options->n_lines);
    }
    pthread_mutex_init(&p.mutex, NULL);
    pthread_cond_init(&p.changed, NULL);
    status = run(&p, err);
    pthread_cond_destroy(&p.changed);
    pthread_mutex_destroy(&p.mutex);
    free(p.ring);
    t5_line_reader_close(p.reader);
    return status;
}
