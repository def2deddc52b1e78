/* base/stdio.h: stdin, stdout and stderr of a program. For main() and what it calls, from one thread. */
#pragma once
#include "base/error.h"
#include <stdio.h>

T5_C_BEGIN

/* To be called first. A closed stdin, stdout or stderr would give its number to a file or a socket, and what is printed
 * to that. It is opened so that reading stdin and writing stdout fail, as if it were closed; stderr takes everything.
 */
void t5_stdio_reserve(void);
/* T5_ERR_IO when something that was printed to `out`, the program's stdout, did not arrive: a full disk, a closed one.
 */
t5_status t5_stdio_flush(FILE *out, t5_error *err);

T5_C_END
