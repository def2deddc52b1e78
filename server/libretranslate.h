/* server/libretranslate.h: routes of LibreTranslate's API besides /translate and /languages. HTTP threads. */
#pragma once
#include "server/http.h"

/* POST /detect: [{"confidence":..,"language":".."}], at most 3, best first, never none. An array of texts gives one
 * list. */
void t5_detect_handle(t5_exchange *x, void *server);
/* GET /frontend/settings: what a page or a client needs to know of this server. */
void t5_frontend_settings_handle(t5_exchange *x, void *server);
/* GET /spec: Swagger 2.0. Its title is LibreTranslate, since clients refuse others. */
void t5_spec_handle(t5_exchange *x, void *server);
/* POST /translate_file and GET /download_file/NAME: no files, as where they are switched off: 403 and 400. */
void t5_translate_file_handle(t5_exchange *x, void *server);
void t5_download_file_handle(t5_exchange *x, void *server);
/* POST /suggest: always 403, as where it is switched off. */
void t5_suggest_handle(t5_exchange *x, void *server);
