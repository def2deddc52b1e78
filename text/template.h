/* text/template.h: prompt templates of t5serve.json: "translate {source_name} to {target_name}: ", "<2{target}> ".
 * Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>

T5_C_BEGIN

/* Replaces {source} and {target} by the codes as given, {source_name} and {target_name} by their English names. "{{"
 * and "}}" stand for braces. T5_ERR_FORMAT for another placeholder, a single brace, a code without a name, and a result
 * that does not fit `out_bytes`. */
t5_status t5_template_expand(const char *template_text, const char *source, const char *target, char *out,
                             size_t out_bytes, t5_error *err);

T5_C_END
