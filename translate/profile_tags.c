/* translate/profile_tags.c: MADLAD-400 names the target language by a piece before the text, "<2de> ", and never the
 * source. Its vocabulary is the list of languages; pieces such as <2translate> are told apart by the table of names. */
#include "text/langcodes.h"
#include "translate/profile_pairs.h"

#include <stdio.h>
#include <string.h>

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

/* Length of the code in a piece ^<2[a-z]{2,3}(_[A-Z][a-z]{3})?>$, or 0. */
static size_t tag_bytes(const char *piece)
{
    if (strncmp(piece, "<2", 2) != 0) return 0;
    const char *code = piece + 2;
    size_t n = 0;
    while (is_lower(code[n]))
        n++;
    if (n < 2 || n > 3) return 0;
    if (code[n] == '_' && code[n + 1] >= 'A' && code[n + 1] <= 'Z' && is_lower(code[n + 2]) && is_lower(code[n + 3]) &&
        is_lower(code[n + 4]))
        n += 5;
    return code[n] == '>' && code[n + 1] == '\0' ? n : 0;
}

t5_status t5_profile_read_tags(const t5_tokenizer *tokenizer, t5_profile *p, t5_error *err)
{
    for (int32_t id = 0; id < t5_tokenizer_vocab_live(tokenizer); id++) {
        char written[T5_LANGCODE_BYTES], code[T5_LANGCODE_BYTES], prompt[sizeof p->pairs->prompt];
        const char *piece = t5_tokenizer_piece(tokenizer, id);
        size_t n_bytes = piece != NULL ? tag_bytes(piece) : 0;
        if (n_bytes == 0) continue;
        snprintf(written, sizeof written, "%.*s", (int)n_bytes, piece + 2);
        bool is_known = t5_langcode_normalize(written, code) && t5_langcode_name(code) != NULL;
        bool has_script = strchr(written, '_') != NULL;
        if (!is_known || (has_script && strchr(code, '-') == NULL) || t5_profile_has_target(p, code)) continue;
        snprintf(prompt, sizeof prompt, "%s ", piece);
        t5_status status = t5_profile_add_pair(p, "", code, prompt, "the vocabulary", err);
        if (status != T5_OK) return status;
    }
    return T5_OK;
}
