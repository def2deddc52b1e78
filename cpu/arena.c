/* cpu/arena.c: see arena.h. */
#include "cpu/arena.h"

#include "cpu/kernels.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define CHUNK_BYTES ((size_t)32 << 20) /* addresses; memory comes as it is written */
/* Less has memory of its own, at whose ends the tests' sanitizers look. */
#define SHARED_BYTES_MIN ((size_t)64 << 10)

struct t5_chunk {
    char *memory;
    size_t n_bytes, n_used;
    int32_t n_holders;
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Held once. */
static t5_chunk *create_chunk(size_t n_bytes, size_t alignment)
{
    t5_chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL) return NULL;
    *chunk = (t5_chunk){.memory = aligned_alloc(alignment, n_bytes), .n_bytes = n_bytes, .n_holders = 1};
    if (chunk->memory == NULL) {
        free(chunk);
        return NULL;
    }
    if (alignment == HUGE_PAGE) (void)madvise(chunk->memory, n_bytes, MADV_HUGEPAGE);
    return chunk;
}

static size_t room_of(const t5_chunk *chunk)
{
    return chunk == NULL ? 0 : chunk->n_bytes - chunk->n_used;
}

void *t5_arena_take(t5_arena *a, size_t n_bytes, t5_chunk **out_chunk)
{
    if (n_bytes > SIZE_MAX / 2) return NULL;
    const size_t n_lines = round_up(n_bytes, T5_LINE_BYTES);
    t5_chunk *chunk = a->open;
    if (n_lines < SHARED_BYTES_MIN) {
        chunk = create_chunk(n_lines, T5_LINE_BYTES);
    } else if (n_lines > room_of(chunk)) {
        chunk = create_chunk(n_lines > CHUNK_BYTES ? round_up(n_lines, HUGE_PAGE) : CHUNK_BYTES, HUGE_PAGE);
    } else {
        chunk->n_holders++;
    }
    if (chunk == NULL) return NULL;
    void *p = chunk->memory + chunk->n_used;
    chunk->n_used += n_lines;
    if (room_of(chunk) > room_of(a->open)) {
        t5_arena_close(a);
        a->open = chunk;
        chunk->n_holders++;
    }
    *out_chunk = chunk;
    return p;
}

void t5_arena_close(t5_arena *a)
{
    t5_chunk_release(a->open);
    a->open = NULL;
}

void t5_chunk_release(t5_chunk *chunk)
{
    if (chunk == NULL || --chunk->n_holders > 0) return;
    free(chunk->memory);
    free(chunk);
}
