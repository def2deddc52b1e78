/* server/json_memory.c: see json_memory.h. */
#include "server/json_memory.h"

#include <jansson.h>
#include <stdlib.h>

static _Thread_local bool ran_out;

static void *allocate(size_t n_bytes)
{
    void *p = malloc(n_bytes);
    if (p == NULL) ran_out = true;
    return p;
}

void t5_json_memory_watch(void)
{
    json_set_alloc_funcs(allocate, free);
}

bool t5_json_memory_ran_out(void)
{
    bool result = ran_out;
    ran_out = false;
    return result;
}
