/* server/deepl_params.h: what a client of DeepL's POST /v2/translate wants, read from its fields. Owns its texts. Any
 * thread. */
#pragma once
#include "server/deepl_tags.h"
#include "server/params.h"

typedef struct {
    t5_params common; /* languages and texts; no option of the decoder is read */
    t5_deepl_tags tags;
    bool wants_model_type; /* the reply names the model's type */
} t5_deepl_params;

/* T5_ERR_ARG holds the text for the client, in DeepL's words where clients know them. On T5_OK release with
 * t5_deepl_params_deinit(); `out` must not move. */
t5_status t5_deepl_params_read(const json_t *fields, const t5_params_rules *rules, t5_deepl_params *out, t5_error *err);
void t5_deepl_params_deinit(t5_deepl_params *p); /* accepts a zeroed one */

/* DeepL writes languages in upper case, and without region where it names a source: "EN", "PT", "ZH". */
void t5_deepl_base_code(const char *public_code, char out[T5_LANGCODE_BYTES]);
