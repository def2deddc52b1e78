/* server/openai_stop.c: see openai_stop.h. */
#include "server/openai_stop.h"

#include <string.h>

static t5_status add_stop(const json_t *value, t5_stops *out, t5_error *err)
{
    const size_t n_bytes = json_string_length(value);
    if (!json_is_string(value) || out->n == T5_STOPS_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "stop must be a string, or an array of up to %d strings", T5_STOPS_MAX);
    if (n_bytes > T5_STOP_BYTES_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "stop: %zu bytes, at most %d are taken", n_bytes, T5_STOP_BYTES_MAX);
    if (n_bytes > 0) memcpy(out->texts[out->n++], json_string_value(value), n_bytes + 1);
    return T5_OK;
}

t5_status t5_stops_read(const json_t *value, t5_stops *out, t5_error *err)
{
    t5_status status = T5_OK;
    out->n = 0;
    if (value == NULL || json_is_null(value)) return T5_OK;
    if (!json_is_array(value)) return add_stop(value, out, err);
    for (size_t i = 0; i < json_array_size(value) && status == T5_OK; i++)
        status = add_stop(json_array_get(value, i), out, err);
    return status;
}
