/* base/assert.h: assertions that stay on in release builds. They guard what only our own code can break; input from
 * outside is checked with errors instead. */
#pragma once
#include "base/error.h"

T5_C_BEGIN
/* Prints the broken condition and its place to stderr and aborts. */
__attribute__((noreturn)) void t5_assert_fail(const char *condition, const char *file, int line);
T5_C_END

#define T5_ASSERT(condition) ((condition) ? (void)0 : t5_assert_fail(#condition, __FILE__, __LINE__))
