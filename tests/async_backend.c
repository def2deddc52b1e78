/* tests/async_backend.c: see async_backend.h. State is file-local: one backend at a time, one thread. */
#include "tests/async_backend.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define COPIES_MAX 16
#define POLLS_UNTIL_DONE 3

typedef struct {
    void *dst, *bytes;
    size_t n_bytes;
    int32_t i_mark; /* -1 until a mark is set behind it */
} late_copy;

static late_copy copies[COPIES_MAX];
static int32_t n_copies, n_polls;
static bool is_recording, is_encoding, is_device_lost;
static async_backend_counts counts;

static int32_t padded_queries(const t5_backend *b, int32_t n_queries)
{
    (void)b;
    int32_t n = 1;
    while (n < n_queries)
        n *= 2;
    counts.n_padded += n > n_queries;
    return n;
}

static t5_status step_begin(t5_backend *b, int32_t n_queries, bool *out_is_queued, t5_error *err)
{
    (void)b;
    (void)n_queries;
    (void)err;
    T5_ASSERT(!is_recording && !is_encoding);
    is_recording = true;
    *out_is_queued = false;
    return T5_OK;
}

static t5_status step_end(t5_backend *b, bool is_whole, bool *out_is_queued, t5_error *err)
{
    (void)b;
    (void)is_whole;
    (void)err;
    T5_ASSERT(is_recording);
    is_recording = false;
    *out_is_queued = true;
    return T5_OK;
}

static t5_status alloc_host(t5_backend *b, size_t n_bytes, void **out, t5_error *err)
{
    (void)b;
    *out = calloc(1, n_bytes);
    return *out != NULL ? T5_OK : T5_FAIL(err, T5_ERR_NOMEM, "%zu bytes", n_bytes);
}

static void release_host(t5_backend *b, void *p)
{
    (void)b;
    free(p);
}

/* Keeps what src holds now; until the wait dst holds rubbish. */
static t5_status fetch(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    (void)b;
    (void)err;
    T5_ASSERT(n_copies < COPIES_MAX);
    void *bytes = malloc(n_bytes + 1);
    T5_ASSERT(bytes != NULL);
    memcpy(bytes, src, n_bytes);
    memset(dst, 0xee, n_bytes);
    copies[n_copies++] = (late_copy){.dst = dst, .bytes = bytes, .n_bytes = n_bytes, .i_mark = -1};
    return T5_OK;
}

static t5_status mark(t5_backend *b, int32_t i_mark, t5_error *err)
{
    (void)b;
    (void)err;
    T5_ASSERT(i_mark == 0 || i_mark == 1);
    for (int32_t i = 0; i < n_copies; i++) {
        if (copies[i].i_mark < 0) copies[i].i_mark = i_mark;
    }
    return T5_OK;
}

/* What was fetched before a mark arrives; `all`: whatever the mark. */
static void settle(bool all, int32_t i_mark)
{
    int32_t n_left = 0;
    for (int32_t i = 0; i < n_copies; i++) {
        if (!all && copies[i].i_mark != i_mark) {
            copies[n_left++] = copies[i];
            continue;
        }
        memcpy(copies[i].dst, copies[i].bytes, copies[i].n_bytes);
        free(copies[i].bytes);
    }
    counts.n_late += n_left > 0;
    n_copies = n_left;
}

static t5_status wait_for(t5_backend *b, int32_t i_mark, t5_error *err)
{
    (void)b;
    (void)err;
    settle(false, i_mark);
    return T5_OK;
}

/* All that was queued is done: a batch that ends frees what the copies go to. */
static t5_status sync_all(t5_backend *b, t5_error *err)
{
    (void)b;
    (void)err;
    settle(true, 0);
    return T5_OK;
}

static t5_status read_settled(t5_backend *b, void *dst, const void *src, size_t n_bytes, t5_error *err)
{
    (void)b;
    (void)err;
    memcpy(dst, src, n_bytes);
    return T5_OK;
}

static t5_status encode_begin(t5_backend *b, t5_error *err)
{
    (void)b;
    (void)err;
    T5_ASSERT(!is_encoding && !is_recording);
    is_encoding = true;
    n_polls = 0;
    return T5_OK;
}

static t5_status encode_end(t5_backend *b, t5_error *err)
{
    (void)b;
    (void)err;
    T5_ASSERT(is_encoding);
    is_encoding = false;
    return T5_OK;
}

static t5_status encode_poll(t5_backend *b, bool waits, bool *out_is_done, t5_error *err)
{
    (void)b;
    if (is_device_lost) return T5_FAIL(err, T5_ERR_DEVICE, "the device is gone");
    *out_is_done = waits || ++n_polls >= POLLS_UNTIL_DONE;
    counts.n_unfinished += !*out_is_done;
    return T5_OK;
}

static const t5_async_ops async_ops = {padded_queries, step_begin,   step_end,   alloc_host,
                                       release_host,   fetch,        mark,       wait_for,
                                       read_settled,   encode_begin, encode_end, encode_poll};

void async_backend_wrap(t5_backend *b)
{
    static t5_backend_ops table;
    table = *b->ops;
    table.async = &async_ops;
    table.sync = sync_all;
    table.has_shortlists = false;
    b->ops = &table;
    counts = (async_backend_counts){0};
}

void async_backend_lose(bool is_lost)
{
    is_device_lost = is_lost;
}

async_backend_counts async_backend_counts_get(void)
{
    return counts;
}
