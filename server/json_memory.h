/* server/json_memory.h: tells when jansson ran out of memory. Why: json_object_set_new() and json_array_append_new()
 * take a value that could not be made for nothing to do, so that a reply without it looks complete, and the parser's
 * error does not tell a full memory from a bad text. A mark per thread does. */
#pragma once
#include <stdbool.h>

/* From now on jansson's failed allocations leave a mark. Once, before other threads use jansson. */
void t5_json_memory_watch(void);
/* True when an allocation of jansson's failed on this thread since the last call. */
bool t5_json_memory_ran_out(void);
