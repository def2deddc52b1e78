/* bench/serve_texts.c: see serve_texts.h. */
#include "bench/serve_texts.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char event_mark[] = "data: ";

/* The JSON body for the sentences in `texts`; the caller frees it. One text is a string, several an array. */
static char *make_body(const t5_serve_texts_options *o, json_t *texts)
{
    json_t *q = o->texts_per_request == 1 ? json_array_get(texts, 0) : texts;
    json_t *body = json_pack("{s:O, s:s, s:s}", "q", q, "source", o->source, "target", o->target);
    if (o->num_beams > 0) json_object_set_new(body, "num_beams", json_integer(o->num_beams));
    if (o->is_streamed) json_object_set_new(body, "stream", json_true());
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text;
}

static t5_status add_request(const t5_serve_texts_options *o, json_t *texts, t5_serve_texts *t, t5_error *err)
{
    char *body = make_body(o, texts), *http = NULL;
    if (body == NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: a sentence is not UTF-8", o->path);
    const int n = asprintf(&http,
                           "POST /translate HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n%s",
                           o->host, o->port, strlen(body), body);
    free(body);
    if (n < 0) return T5_FAIL(err, T5_ERR_NOMEM, "%s", o->path);
    t->requests[t->n_requests++] = (t5_serve_request){.http = http, .http_bytes = (size_t)n};
    return T5_OK;
}

/* Sentences are gathered until they are enough for a request; those left at the end are dropped. */
static t5_status read_requests(const t5_serve_texts_options *o, FILE *file, t5_serve_texts *t, t5_error *err)
{
    t5_status status = T5_OK;
    char *line = NULL;
    size_t line_bytes = 0;
    json_t *texts = json_array();
    while (status == T5_OK && t->n_requests < o->requests_max && getline(&line, &line_bytes, file) > 0) {
        line[strcspn(line, "\t\r\n")] = '\0';
        if (line[0] == '\0') continue;
        json_array_append_new(texts, json_string(line));
        if (json_array_size(texts) < (size_t)o->texts_per_request) continue;
        status = add_request(o, texts, t, err);
        json_array_clear(texts);
    }
    json_decref(texts);
    free(line);
    if (status == T5_OK && t->n_requests == 0)
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: fewer than %d sentences", o->path, o->texts_per_request);
    return status;
}

t5_status t5_serve_texts_open(const t5_serve_texts_options *options, t5_serve_texts *out, t5_error *err)
{
    *out = (t5_serve_texts){0};
    FILE *file = fopen(options->path, "r");
    if (file == NULL) return T5_FAIL(err, T5_ERR_IO, "%s: %s", options->path, strerror(errno));
    t5_status status = T5_OK;
    out->requests = calloc((size_t)options->requests_max, sizeof *out->requests);
    if (out->requests == NULL) status = T5_FAIL(err, T5_ERR_NOMEM, "%d requests", options->requests_max);
    if (status == T5_OK) status = read_requests(options, file, out, err);
    fclose(file);
    if (status != T5_OK) t5_serve_texts_close(out);
    return status;
}

void t5_serve_texts_close(t5_serve_texts *t)
{
    for (int32_t i = 0; i < t->n_requests; i++) {
        free(t->requests[i].http);
        free(t->requests[i].answer);
    }
    free(t->requests);
    *t = (t5_serve_texts){0};
}

const char *t5_serve_answer(const char *body, size_t n_bytes, bool is_streamed, size_t *out_bytes)
{
    const char *answer = body, *end = body + n_bytes;
    if (is_streamed) {
        for (const char *mark = strstr(body, event_mark); mark != NULL; mark = strstr(answer, event_mark))
            answer = mark + sizeof event_mark - 1;
        const char *line_end = strchr(answer, '\n');
        if (line_end != NULL) end = line_end;
    }
    *out_bytes = (size_t)(end - answer);
    return answer;
}
