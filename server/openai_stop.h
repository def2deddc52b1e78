/* server/openai_stop.h: OpenAI's `stop`. Any thread. */
#pragma once
#include "translate/stops.h"
#include <jansson.h>

/* `value`: absent, null, a string, or an array of up to T5_STOPS_MAX of them. T5_ERR_ARG otherwise. */
t5_status t5_stops_read(const json_t *value, t5_stops *out, t5_error *err);
