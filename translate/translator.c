/* translate/translator.c: opens a model folder and holds what it needs. See translator.h; requests are in
 * translation.c. What is small and most often wrong (config, tokenizer, profile) is opened before the device and the
 * weights, so that a wrong folder fails at once. */
#include "translate/translator.h"

#include "base/log.h"
#include "model/memory.h"
#include "translate/translator_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Few rows fill a CPU, and a long encoder pass would stall them; a GPU is starved by less than this. A target has its
 * start token besides what is translated. */
#define QUEUE_DEPTH 16384 /* sentences: some megabytes */

static const t5_engine_options cpu_defaults = {.n_rows_max = 64,
                                               .src_len_max = 512,
                                               .tgt_len_max = 1 + 512,
                                               .enc_tokens_max = 512,
                                               .queue_depth_max = QUEUE_DEPTH};
static const t5_engine_options gpu_defaults = {.n_rows_max = 256,
                                               .src_len_max = 512,
                                               .tgt_len_max = 1 + 512,
                                               .enc_tokens_max = 4096,
                                               .queue_depth_max = QUEUE_DEPTH};

void t5_translator_options_init(t5_translator_options *o)
{
    *o = (t5_translator_options){.device = {.device = "auto", .compute_type = "auto"}};
}

static void or_default(int32_t *option, int32_t value)
{
    if (*option == 0) *option = value;
}

static void fill_engine_options(t5_engine_options *o, const t5_backend *backend)
{
    const bool is_gpu = strcmp(backend->ops->name, "cuda") == 0;
    const t5_engine_options *defaults = is_gpu ? &gpu_defaults : &cpu_defaults;
    or_default(&o->n_rows_max, defaults->n_rows_max);
    or_default(&o->src_len_max, defaults->src_len_max);
    or_default(&o->tgt_len_max, defaults->tgt_len_max);
    or_default(&o->enc_tokens_max,
               defaults->enc_tokens_max > o->src_len_max ? defaults->enc_tokens_max : o->src_len_max);
    or_default(&o->queue_depth_max, defaults->queue_depth_max);
}

static bool leads(const void *ctx, const char *source, const char *target)
{
    return t5_profile_find(ctx, source, target) != NULL;
}

/* What language detection and error texts need. */
static t5_status list_languages(t5_translator *t, t5_error *err)
{
    const t5_profile *profile = &t->profile;
    const t5_status status = t5_languages_init(&profile, 1, &t->languages, err);
    t->languages.leads = leads;
    t->languages.ctx = profile;
    return status;
}

static t5_status open_text(t5_translator *t, const char *dir, const char *languages, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(t5_hparams_load(dir, &t->hparams, err));
    const t5_tokenizer_options options = {
        .vocab_size = t->hparams.vocab_size, .pad_id = t->hparams.pad_id, .eos_id = t->hparams.eos_id};
    T5_TRY(t5_tokenizer_open(dir, &options, &t->tokenizer, err));
    const int32_t n_live = t5_tokenizer_vocab_live(t->tokenizer);
    t->vocab_live = n_live < t->hparams.vocab_size ? n_live : t->hparams.vocab_size;
    T5_TRY(t5_profile_load(dir, t->tokenizer, t->hparams.vocab_size, &t->profile, err));
    if (languages != NULL && languages[0] != '\0') t5_profile_keep(&t->profile, languages);
    T5_TRY(list_languages(t, err));
    t5_decoding_init(&t->generation_defaults);
    T5_TRY(t5_decoding_load(dir, &t->generation_defaults, err));
out:
    return status;
}

/* "cuda:0 (NVIDIA H200, float16); cuda:1 (NVIDIA H200, float16)" */
static void describe_devices(t5_translator *t)
{
    size_t n = 0;
    for (int32_t i = 0; i < t->n_devices && n < sizeof t->device; i++)
        n += (size_t)snprintf(t->device + n, sizeof t->device - n, "%s%s", i > 0 ? "; " : "", t->backends[i]->device);
}

/* kv_bytes in positions. A cache that cannot hold the longest sentence would refuse what the other limits allow. */
static t5_status fit_cache(t5_translator *t, int64_t kv_bytes, t5_error *err)
{
    t5_engine_options *o = &t->engine_options;
    const int64_t block_bytes = (int64_t)t5_kv_block_bytes(&t->hparams, t->backends[0]->act_dtype);
    const int64_t n_blocks_max = INT32_MAX / T5_KV_BLOCK;
    const int64_t n_blocks_min = o->src_len_max / T5_KV_BLOCK + 1 + o->tgt_len_max / T5_KV_BLOCK + 1;
    const int64_t n_blocks = kv_bytes / block_bytes;
    if (kv_bytes == 0) return T5_OK;
    if (n_blocks < n_blocks_min)
        return T5_FAIL(err, T5_ERR_ARG, "kv_memory: %lld bytes, but the longest sentence alone needs %lld",
                       (long long)kv_bytes, (long long)(n_blocks_min * block_bytes));
    o->kv_tokens = (int32_t)(n_blocks < n_blocks_max ? n_blocks : n_blocks_max) * T5_KV_BLOCK;
    return T5_OK;
}

/* All memory that is ever taken but for requests themselves, in one line. */
static void log_memory(t5_translator *t)
{
    t5_engine_stats stats;
    t5_engine_stats_get(t->engine, &stats);
    t5_log(T5_LOG_INFO, "memory weights_bytes=%zu kv_bytes=%zu kv_positions=%lld scratch_bytes=%zu host_bytes=%zu",
           stats.memory.weights, stats.memory.kv, (long long)stats.kv.n_blocks * T5_KV_BLOCK, stats.memory.scratch,
           stats.memory.host);
}

static t5_status open_engine(t5_translator *t, const t5_translator_options *options, t5_error *err)
{
    t5_status status = T5_OK;
    T5_TRY(t5_devices_open(&options->device, t->backends, &t->n_devices, err));
    describe_devices(t);
    t->engine_options = options->engine;
    fill_engine_options(&t->engine_options, t->backends[0]);
    T5_TRY(fit_cache(t, options->kv_bytes, err));
    t5_batch_limits limits;
    T5_TRY(t5_engine_batch_limits(&t->engine_options, &limits, err));
    for (int32_t i = 0; i < t->n_devices; i++) {
        T5_TRY(t5_memory_check(options->model_dir, t->backends[i], &limits, err));
        T5_TRY(t5_model_open(options->model_dir, t->backends[i], limits.src_len_max, limits.tgt_len_max, &t->models[i],
                             err));
    }
    if (options->uses_shortlists) T5_TRY(t5_translator_open_shortlists(t, options->model_dir, err));
    T5_TRY(t5_engine_create(t->models, t->n_devices, &t->engine_options, &t->engine, err));
    log_memory(t);
out:
    return status;
}

/* A sentence takes tens of microseconds, a request of thousands of texts tenths of a second. */
static void init_histograms(t5_translator *t)
{
    enum { us = 1000, ms = 1000000 };
    static const int64_t bounds[] = {25 * us, 50 * us, 100 * us, 250 * us, 500 * us, 1 * ms,   2500 * us,
                                     5 * ms,  10 * ms, 25 * ms,  50 * ms,  100 * ms, 250 * ms, 1000 * ms};
    t5_histogram_init(&t->tokenize_ns, bounds, T5_COUNT(bounds));
    t5_histogram_init(&t->detokenize_ns, bounds, T5_COUNT(bounds));
}

t5_status t5_translator_open(const t5_translator_options *options, t5_translator **out, t5_error *err)
{
    t5_status status = T5_OK;
    if (options->sentences_max < 0 || options->sentence_tokens_max < 0)
        return T5_FAIL(err, T5_ERR_ARG, "a limit of sentences is negative");
    t5_translator *t = calloc(1, sizeof *t);
    if (t == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "translator: %zu bytes", sizeof *t);

    init_histograms(t);
    T5_TRY(open_text(t, options->model_dir, options->languages, err));
    T5_TRY(t5_workers_create(1, &t->text_thread, err));
    T5_TRY(open_engine(t, options, err));
    t->sentences_max = options->sentences_max;
    or_default(&t->sentences_max, T5_SENTENCES_MAX);
    t->sentence_tokens_max = options->sentence_tokens_max;
    or_default(&t->sentence_tokens_max, T5_SENTENCE_TOKENS_MAX);
    if (t->sentence_tokens_max > t->engine_options.src_len_max) t->sentence_tokens_max = t->engine_options.src_len_max;
    *out = t;
    t = NULL; /* handed to the caller */
out:
    t5_translator_close(t);
    return status;
}

t5_status t5_translator_describe(const t5_translator_options *options, t5_profile *out_profile,
                                 t5_decoding *out_defaults, t5_error *err)
{
    t5_translator *t = calloc(1, sizeof *t);
    if (t == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "translator: %zu bytes", sizeof *t);
    const t5_status status = open_text(t, options->model_dir, options->languages, err);
    if (status == T5_OK) {
        *out_profile = t->profile;
        *out_defaults = t->generation_defaults;
        t->profile = (t5_profile){0}; /* handed to the caller */
    }
    t5_translator_close(t);
    return status;
}

void t5_translator_close(t5_translator *t)
{
    if (t == NULL) return;
    t5_engine_destroy(t->engine);
    t5_workers_destroy(t->text_thread);
    for (int32_t i = 0; i < t->n_devices; i++) {
        t5_model_close(t->models[i]);
        t->backends[i]->ops->destroy(t->backends[i]);
    }
    free(t->shortlists);
    t5_languages_deinit(&t->languages);
    t5_profile_deinit(&t->profile);
    t5_tokenizer_close(t->tokenizer);
    free(t);
}

const t5_profile *t5_translator_profile(const t5_translator *t)
{
    return &t->profile;
}

const t5_decoding *t5_translator_generation_defaults(const t5_translator *t)
{
    return &t->generation_defaults;
}

const t5_tokenizer *t5_translator_tokenizer(const t5_translator *t)
{
    return t->tokenizer;
}

const t5_hparams *t5_translator_hparams(const t5_translator *t)
{
    return &t->hparams;
}

t5_engine *t5_translator_engine(t5_translator *t)
{
    return t->engine;
}

const char *t5_translator_device(const t5_translator *t)
{
    return t->device;
}

void t5_translator_stats_get(const t5_translator *t, t5_translator_stats *out)
{
    t5_histogram_read(&t->tokenize_ns, &out->tokenize_ns);
    t5_histogram_read(&t->detokenize_ns, &out->detokenize_ns);
    out->n_in_parts = atomic_load(&t->n_in_parts);
    out->n_searched_again = atomic_load(&t->n_searched_again);
}

int32_t t5_translator_n_rows_max(const t5_translator *t)
{
    return t->engine_options.n_rows_max * t->n_devices;
}

int32_t t5_translator_src_len_max(const t5_translator *t)
{
    return t->engine_options.src_len_max;
}

int32_t t5_translator_tgt_len_max(const t5_translator *t)
{
    return t->engine_options.tgt_len_max;
}
