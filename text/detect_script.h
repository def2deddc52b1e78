/* text/detect_script.h: what the writing says about the language. Not for other folders. Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <unicode/uscript.h>

T5_C_BEGIN

typedef struct {
    /* Of most letters. USCRIPT_HAN stands for Chinese and Japanese writing, also when a fifth of the letters are
     * Japanese with kana among them; USCRIPT_COMMON: none. */
    UScriptCode script;
    size_t n_letters;
    size_t n_kana, n_han;               /* with USCRIPT_HAN */
    size_t n_simplified, n_traditional; /* characters that only one of the two Chinese writings has */
} t5_writing;

t5_writing t5_writing_of(const char *text, size_t n_bytes);
/* True when a language, a public code, is written in the script. */
bool t5_script_has(UScriptCode script, const char *code);
/* True when the script has one language only: its text needs no further question. */
bool t5_script_is_sole(UScriptCode script);
/* The language that most texts in a script shared by several are in, or NULL. */
const char *t5_script_main(UScriptCode script);

T5_C_END
