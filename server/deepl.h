/* server/deepl.h: routes of DeepL's API, so that its clients work against this server. Any key is taken, or
 * none. HTTP threads. */
#pragma once
#include "server/http.h"

/* GET and POST /v2/translate */
void t5_deepl_handle(t5_exchange *x, void *server);
void t5_deepl_finish(t5_exchange *x, void *server);
void t5_deepl_cancel(t5_exchange *x);
void t5_deepl_release(void *state);
/* GET and POST /v2/languages: field type is "source" (default) or "target". */
void t5_deepl_languages_handle(t5_exchange *x, void *server);
/* GET and POST /v2/usage: characters since the start, and a limit that nobody reaches. */
void t5_deepl_usage_handle(t5_exchange *x, void *server);
/* GET /v2/glossaries, /v3/glossaries and /v2/glossary-language-pairs: none, which clients ask for before they
 * translate. */
void t5_deepl_glossaries_handle(t5_exchange *x, void *server);
void t5_deepl_glossary_pairs_handle(t5_exchange *x, void *server);
/* POST /v2/glossaries, /v3/glossaries, /v2/document: 400, not offered. */
void t5_deepl_no_glossaries_handle(t5_exchange *x, void *server);
void t5_deepl_document_handle(t5_exchange *x, void *server);
/* GET /v3/languages: field resource; only translate_text has languages. GET /v3/languages/resources names it. */
void t5_deepl_v3_languages_handle(t5_exchange *x, void *server);
void t5_deepl_v3_resources_handle(t5_exchange *x, void *server);
