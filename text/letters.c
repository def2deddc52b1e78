/* text/letters.c: see letters.h. */
#include "text/letters.h"

#include "base/utf8.h"

#include <unicode/uchar.h>

bool t5_text_has_letter(const char *text, size_t n_bytes)
{
    uint32_t code = 0;
    for (size_t i = 0; i < n_bytes;) {
        i += t5_utf8_next(text + i, n_bytes - i, &code);
        if (u_isalpha((UChar32)code)) return true;
    }
    return false;
}
