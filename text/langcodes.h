/* text/langcodes.h: language codes. Public codes are what our API writes: lower-case languages ("en", "nb"), "pt-BR",
 * "zh-Hans", "zh-Hant", a script where a model has it ("zh-Latn"). Clients and models write many more forms: zh, zh_CN,
 * ZH-TW, pb, no, iw, en-US. All texts are static; any thread. */
#pragma once
#include "base/error.h"
#include <stdint.h>

T5_C_BEGIN

#define T5_LANGCODE_BYTES 16 /* with the final NUL */

/* English name of a public code ("German", "Chinese (traditional)"); NULL when the table does not know it. */
const char *t5_langcode_name(const char *code);
/* The public form of any way to write a language: case, '_', old codes and aliases, and a region that makes no
 * difference is dropped (en-US -> en). A language which the table does not know is only brought to lower case. False,
 * and `out` is "", for what cannot be a code: longer than 15 bytes, other than letters, digits, '-' and '_'. */
bool t5_langcode_normalize(const char *code, char out[T5_LANGCODE_BYTES]);
/* Which of the `served` public codes a client means by `code`; NULL for none. Besides t5_langcode_normalize() it takes
 * tl for fil and pt for pt-BR when only the other one is served, and back. */
const char *t5_langcode_match(const char *code, const char *const *served, int32_t n_served);
/* The first code of a list "en, de,pt_BR" in its public form, "" for what cannot be one. Returns the rest of the list;
 * at its end NULL. */
const char *t5_langcode_next(const char *list, char out[T5_LANGCODE_BYTES]);
/* LibreTranslate's internal form, which its error texts use: "zt" for zh-Hant, "zh", "pb"; other codes as they are. */
const char *t5_langcode_internal(const char *code);

T5_C_END
