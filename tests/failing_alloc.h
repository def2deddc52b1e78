/* tests/failing_alloc.h: allocations of the program (not of the libraries) that fail. The linker sends malloc, calloc
 * and realloc of a t5_nomem_test() through this. Any thread allocates; one thread at a time calls these. */
#pragma once
#include <stdbool.h>

/* The n-th allocation from now on fails, once; 0 is the next. */
void failing_alloc_begin(int n);
/* From now on none fails. True when the n-th allocation was reached. */
bool failing_alloc_end(void);
