/* base/limits.h: bounds that are part of the design, not settings. Settings and their ranges are in config/keys.def. */
#pragma once

#define T5_BEAMS_MAX 32      /* rows of one slot: beams, or sampled sequences; fits the one-byte ancestor table */
#define T5_KV_BLOCK 16       /* positions in one block of the KV cache */
#define T5_QUERY_LEN_MAX 8   /* positions of one row that a decode step may process at once */
#define T5_STABLE_MAX 8      /* tokens of one sequence that a step reports as certain */
#define T5_SUPPRESS_MAX 64   /* suppressed tokens of one sequence */
#define T5_TOP_K_MAX 1024    /* tokens that sampling sorts when asked for a number; 0 is all of them */
#define T5_LAYERS_MAX 128    /* encoder or decoder layers of a model */
#define T5_VOCAB_MAX 1048576 /* rows of a vocabulary */
#define T5_THREADS_MAX 256   /* of the CPU backend's pool */
#define T5_DEVICES_MAX 16    /* GPUs of one engine */
#define T5_MODELS_MAX 64     /* model folders of one server */
#define T5_KV_MEMORY_MAX (INT64_C(1) << 40) /* bytes of the KV cache that can be asked for */
#define T5_SEQ_LEN_MAX 4096                 /* tokens of one source or target */
#define T5_JSON_FILE_MAX (64 << 20) /* bytes of a JSON file in a model folder; an index of a large model has 100 kB */

/* Shortlists of a model: one for each language that it translates into. */
#define T5_SHORTLISTS_MAX 1024
