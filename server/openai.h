/* server/openai.h: the part of OpenAI's API that fits a text-to-text model: POST /v1/completions, GET /v1/models and
 * /v1/models/ID. HTTP threads and workers. */
#pragma once
#include "server/http.h"

void t5_completions_handle(t5_exchange *x, void *server);
void t5_completions_finish(t5_exchange *x, void *server);
void t5_completions_cancel(t5_exchange *x);
void t5_completions_release(void *state);
void t5_models_handle(t5_exchange *x, void *server);
void t5_model_handle(t5_exchange *x, void *server);
