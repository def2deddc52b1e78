/* tests/torture/failing.h: calls of the C library that fail on command. The linker sends the calls of the program, and
 * of the libraries that are linked statically into it, through failing.c (-Wl,--wrap); failing.def lists them.
 *
 * The control lives in memory that a parent shares with the process it forks: the parent orders a failure, the child
 * suffers it. One order at a time; any thread may be the one that meets it. */
#pragma once
#include <stdbool.h>

/* What can be ordered to fail. FAIL_MEMORY is every way to allocate: of our own code, libmicrohttpd and jansson. */
typedef enum {
    FAIL_MEMORY,
    FAIL_CPP_MEMORY, /* operator new, but for SentencePiece */
    FAIL_ICU_MEMORY,
    FAIL_EPOLL_ADD, /* taking a socket out of a set cannot fail */
#define FAIL_CALL(type, name, error, value, params, args) FAIL_##name,
#include "failing.def"
#undef FAIL_CALL
    FAIL_N_KINDS
} fail_kind;

/* Once, before the fork. */
void failing_init(void);
/* From now on this process suffers what is ordered; ICU allocates through us, jansson through the server.
 * Two libraries do not survive a failure of their own and are spared: jansson 2.14's parser writes past its buffer when
 * that cannot grow, and SentencePiece 0.1.97 throws out of a destructor, which ends the process. */
void failing_suffer(void);
/* The n-th call of `kind` from now on (0: the next) fails. */
void failing_order(fail_kind kind, int n);
/* No more failures. True when the ordered one has happened. */
bool failing_end(void);
const char *failing_name(fail_kind kind);
/* For failing_new.cc. */
bool failing_now(fail_kind kind);
