/* tokenizer/spm_check.h: proves that a SentencePiece model file is one which the library can open without crashing.
 * Why: a hostile spiece.model with a piece of 400 kB, with a piece of NULs, or with a garbage character map brings the
 * library down (a stack overflow, an uncaught exception, reads out of bounds, an exit(-1)) instead of giving an error.
 * Any thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

T5_C_BEGIN

/* The numbers of sentencepiece_model.proto. */
typedef enum {
    T5_PIECE_NORMAL = 1,
    T5_PIECE_UNKNOWN = 2,
    T5_PIECE_CONTROL = 3,
    T5_PIECE_USER_DEFINED = 4,
    T5_PIECE_UNUSED = 5,
    T5_PIECE_BYTE = 6,
} t5_piece_type;

/* Checks the whole file. `path` is for the error text only. T5_ERR_FORMAT says what is wrong and where. */
t5_status t5_spm_check(const void *data, size_t n_bytes, const char *path, t5_error *err);

/* True when the model of a checked file puts decoded texts through a character map. */
bool t5_spm_maps_text(const void *data, size_t n_bytes);

/* True for the pieces that no typed text may become: "<extra_id_7>", "</s>", "<s>", "<pad>", "<unk>", also after "▁".
 */
bool t5_spm_is_special_name(const char *piece, size_t n_bytes);

/* A malloc'ed copy of a checked file in which each piece with a special name is a control piece: SentencePiece then
 * never finds it in a text. The caller frees it. */
t5_status t5_spm_guard(const void *data, size_t n_bytes, void **out, size_t *out_bytes, t5_error *err);

/* Checks a normalizer's precompiled character map: u32 size of a double-array trie, the trie (Darts), the replacement
 * texts. No walk of the trie may leave it, loop, find more than 32 prefixes (the library's buffer) or name a text that
 * is not there. An empty map is fine. */
t5_status t5_charsmap_check(const unsigned char *map, size_t n_bytes, const char *path, t5_error *err);

T5_C_END
