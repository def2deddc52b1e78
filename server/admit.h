/* server/admit.h: lets a request in, or answers it in the words of its API. HTTP threads. */
#pragma once
#include "server/routes.h"

/* How an API says no. Texts are static; "%" has no meaning in them. */
typedef struct {
    unsigned no_key_status, wrong_key_status;
    const char *no_key_text, *wrong_key_text;
    const char *too_often_text; /* NULL: LibreTranslate's, which names the limit */
} t5_refusals;

extern const t5_refusals t5_refusals_libretranslate, t5_refusals_deepl, t5_refusals_openai;

/* `key`: of the API's own field, or NULL: then that of an Authorization header counts. `n_texts` is what it costs, 0
 * counts as 1. True when the request may go on, under *out_rules: the server's, with what its key allows; else it
 * is answered. */
bool t5_server_admits(t5_exchange *x, const t5_server *s, const t5_refusals *refusals, const char *key, int64_t n_texts,
                      t5_params_rules *out_rules);
