/* engine/stats.c: the statistics of several engines together. See engine.h. */
#include "engine/engine.h"

static void add_histograms(t5_engine_stats *sum, const t5_engine_stats *stats)
{
    t5_histogram_counts_add(&sum->queue_wait_ns, &stats->queue_wait_ns);
    t5_histogram_counts_add(&sum->encode_ns, &stats->encode_ns);
    t5_histogram_counts_add(&sum->step_ns, &stats->step_ns);
    t5_histogram_counts_add(&sum->decode_ns, &stats->decode_ns);
    t5_histogram_counts_add(&sum->step_rows, &stats->step_rows);
}

static void add_memory(t5_engine_stats *sum, const t5_engine_stats *stats)
{
    sum->memory.weights += stats->memory.weights;
    sum->memory.kv += stats->memory.kv;
    sum->memory.scratch += stats->memory.scratch;
    sum->memory.host += stats->memory.host;
    sum->kv.n_blocks += stats->kv.n_blocks;
    sum->kv.n_reserved += stats->kv.n_reserved;
    sum->kv.n_used += stats->kv.n_used;
}

void t5_engine_stats_add(t5_engine_stats *sum, const t5_engine_stats *stats)
{
    sum->n_sequences += stats->n_sequences;
    sum->n_failed += stats->n_failed;
    sum->n_cancelled += stats->n_cancelled;
    sum->n_late += stats->n_late;
    sum->n_nonfinite += stats->n_nonfinite;
    sum->n_rejected += stats->n_rejected;
    sum->n_source_tokens += stats->n_source_tokens;
    sum->n_target_tokens += stats->n_target_tokens;
    sum->queue_depth += stats->queue_depth;
    sum->n_running += stats->n_running;
    sum->n_rows_running += stats->n_rows_running;
    if (stats->n_devices > sum->n_devices) sum->n_devices = stats->n_devices;
    sum->is_lost = sum->is_lost || stats->is_lost;
    add_histograms(sum, stats);
    add_memory(sum, stats);
}
