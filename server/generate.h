/* server/generate.h: POST /generate: text to text as the model was trained, with every option of the decoder; for every
 * model folder. HTTP threads and workers. */
#pragma once
#include "server/http.h"

void t5_generate_handle(t5_exchange *x, void *server);
void t5_generate_finish(t5_exchange *x, void *server);
void t5_generate_cancel(t5_exchange *x);
void t5_generate_release(void *state);
