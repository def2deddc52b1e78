/* tests/fuzz/fuzz_config.c: any bytes as config.json and as generation_config.json. What is accepted is within limits.
 */
#include "base/assert.h"
#include "model/decoding.h"
#include "model/hparams.h"
#include "json/json_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void read_decoding(const uint8_t *data, size_t n_bytes)
{
    t5_error err = {0};
    json_t *object = NULL;
    t5_decoding d;
    t5_decoding_init(&d);
    if (t5_json_parse("fuzz", (const char *)data, n_bytes, 0, &object, &err) != T5_OK) return;
    t5_status status = t5_decoding_set_object(&d, object, &err);
    if (status == T5_OK) status = t5_decoding_check(&d, 100, &err);
    T5_ASSERT(status == err.status && (status == T5_OK || err.text[0] != '\0'));
    T5_ASSERT(d.num_beams >= 1 && d.num_beams <= T5_BEAMS_MAX && d.n_suppress <= T5_SUPPRESS_MAX);
    json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    t5_error err = {0};
    t5_hparams hp = {0};
    t5_status status = t5_hparams_parse("fuzz", (const char *)data, n_bytes, &hp, &err);
    T5_ASSERT(status == err.status && (status == T5_OK || strncmp(err.text, "fuzz: ", 6) == 0));
    if (status == T5_OK) {
        T5_ASSERT(hp.d_model > 0 && hp.n_dec_layers > 0 && hp.n_dec_layers <= T5_LAYERS_MAX && hp.norm_eps > 0);
        T5_ASSERT(hp.eos_id >= 0 && hp.eos_id < hp.vocab_size && hp.start_id >= 0 && hp.start_id < hp.vocab_size);
        T5_ASSERT(hp.rel_distance_max > hp.rel_buckets / 2);
    }
    read_decoding(data, n_bytes);
    return 0;
}
