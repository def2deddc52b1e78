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
/* POST /suggest: always 403, as where it is switched off. */
void t5_suggest_handle(t5_exchange *x, void *server);
