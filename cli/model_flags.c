/* cli/model_flags.c: see model_flags.h. */
#include "cli/model_flags.h"
#include "base/log.h"
#include "config/config.h"

#include <string.h>

/* Sequences that may wait in the engine. Lines in flight are bounded by the pipeline's window; this bounds the
 * sentences of one line. */
#define QUEUE_DEPTH 1048576

void t5_model_flags_init(t5_model_flags *m)
{
    *m = (t5_model_flags){.device = "auto", .compute_type = "auto"};
    const t5_flag table[T5_MODEL_FLAGS] = {
        {.name = "--model",
         .text = &m->dir,
         .value_name = "DIR",
         .help = "Hugging Face model folder (default: the bundled model)"},
        {.name = "--device",
         .text = &m->device,
         .value_name = "NAME",
         .help = "auto, cpu, cuda, cuda:N or a list cuda:0,cuda:1 (default auto: a working GPU)"},
        {.name = "--compute-type",
         .text = &m->compute_type,
         .value_name = "TYPE",
         .choices = "auto|float32|float16|bfloat16|int8|int4",
         .help = "auto, float32, float16, bfloat16, int8 or int4 (default auto)"},
        {.name = "--threads",
         .number = &m->n_threads,
         .value_name = "N",
         .max = T5_THREADS_MAX,
         .help = "CPU threads (default 0: one per core that this process may use)"},
        {.name = "--max-running-rows",
         .number = &m->n_rows_max,
         .value_name = "N",
         .min = T5_BEAMS_MAX,
         .max = 4096,
         .help = "hypotheses decoded together (default: the device's)"},
        {.name = "--max-source-tokens",
         .number = &m->src_len_max,
         .value_name = "N",
         .min = 1,
         .max = T5_SEQ_LEN_MAX,
         .help = "longest source accepted"},
        {.name = "--max-target-tokens",
         .number = &m->max_target_tokens,
         .value_name = "N",
         .min = 1,
         .max = T5_SEQ_LEN_MAX - 1,
         .help = "longest result possible"},
        {.name = "--verbose", .is_on = &m->is_verbose, .help = "log to stderr what is loaded and where"},
    };
    memcpy(m->table, table, sizeof table);
}

t5_status t5_model_flags_dir(t5_model_flags *m, const char **out, t5_error *err)
{
    if (m->dir == NULL) {
        t5_status status = t5_config_bundled_model(m->bundled_dir, sizeof m->bundled_dir, err);
        if (status != T5_OK) return status;
        m->dir = m->bundled_dir;
    }
    *out = m->dir;
    return T5_OK;
}

t5_status t5_model_flags_check(const t5_model_flags *m, t5_error *err)
{
    t5_error reason = {0};
    const t5_status status = t5_devices_check(m->device, &reason);
    return status == T5_OK ? T5_OK : T5_FAIL(err, status, "--%s", reason.text);
}

t5_status t5_model_flags_open(t5_model_flags *m, t5_translator **out, t5_error *err)
{
    t5_translator_options options;
    t5_translator_options_init(&options);
    t5_status status = t5_model_flags_dir(m, &options.model_dir, err);
    if (status != T5_OK) return status;
    t5_log_set_level(m->is_verbose ? T5_LOG_INFO : T5_LOG_WARN);
    options.device.device = m->device;
    options.device.compute_type = m->compute_type;
    options.device.n_threads = m->n_threads;
    options.engine.queue_depth_max = QUEUE_DEPTH;
    options.engine.n_rows_max = m->n_rows_max;
    options.engine.src_len_max = m->src_len_max;
    options.uses_shortlists = m->uses_shortlists;
    if (m->max_target_tokens > 0) options.engine.tgt_len_max = m->max_target_tokens + 1; /* the start token */
    status = t5_translator_open(&options, out, err);
    if (status == T5_OK) m->n_rows_max = t5_translator_n_rows_max(*out);
    return status;
}

t5_status t5_decoding_flags_apply(const t5_decoding_flags *flags, int32_t vocab_size, t5_decoding *d, t5_error *err)
{
    for (int32_t i = 0; i < flags->n_items; i++) {
        t5_status status = t5_decoding_set_text(d, flags->items[i].name, flags->items[i].value, err);
        if (status != T5_OK) return status;
    }
    bool is_sampling_asked = d->do_sample && t5_decoding_flags_has(flags, "do_sample");
    if (is_sampling_asked && !t5_decoding_flags_has(flags, "num_beams")) d->num_beams = 1;
    return t5_decoding_check(d, vocab_size, err);
}

t5_status t5_open_tokenizer(const char *dir, t5_hparams *out_hp, t5_tokenizer **out, t5_error *err)
{
    t5_status status = t5_hparams_load(dir, out_hp, err);
    if (status != T5_OK) return status;
    t5_tokenizer_options options = {
        .vocab_size = out_hp->vocab_size, .pad_id = out_hp->pad_id, .eos_id = out_hp->eos_id};
    return t5_tokenizer_open(dir, &options, out, err);
}
