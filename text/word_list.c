/* text/word_list.c: see word_list.h. */
#include "text/word_list.h"

#include <string.h>

bool t5_has_word(const char *list, const char *word)
{
    size_t n_bytes = strlen(word);
    if (n_bytes == 0) return false;
    for (const char *found = list; (found = strstr(found, word)) != NULL; found++)
        if (found > list && found[-1] == ' ' && found[n_bytes] == ' ') return true;
    return false;
}
