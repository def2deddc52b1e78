/* cpu/vocab.c: what the search does over a whole vocabulary, compiled once per instruction set. All are one or two
 * passes at memory speed; masked tokens are -inf. */
#include "cpu/tile.h"

#include <math.h>

#define CHUNK 256      /* argmax looks for the place of the maximum in one chunk only */
#define TOP_K_SHORT 64 /* lists up to here are kept sorted; longer ones go to the plain heap */

/* NaN values are passed over. */
static float max_of(const float *x, int32_t n)
{
    v_f32 max = v_set1(-INFINITY);
    int32_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        max = v_max(v_load(x + i), max);
    float best = v_max_lane(max);
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

float kernel_log_sum_exp(const float *x, int32_t n)
{
    const float max = max_of(x, n);
    if (max == -INFINITY) return max;
    v_f32 sum0 = v_set1(0.0f);
    v_f32 sum1 = v_set1(0.0f);
    const v_f32 top = v_set1(max);
    int32_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        sum0 = sum0 + v_exp(v_load(x + i) - top);
        sum1 = sum1 + v_exp(v_load(x + i + V_LANES) - top);
    }
    double sum = (double)v_sum(sum0 + sum1);
    for (; i < n; i++)
        sum += exp((double)(x[i] - max));
    return max + (float)log(sum);
}

int32_t kernel_argmax(const float *x, int32_t n)
{
    float best = -INFINITY;
    int32_t best_chunk = 0;
    for (int32_t i = 0; i < n; i += CHUNK) {
        const float max = max_of(x + i, n - i < CHUNK ? n - i : CHUNK);
        if (max > best) {
            best = max;
            best_chunk = i;
        }
    }
    int32_t i = best_chunk;
    while (i < n - 1 && x[i] != best)
        i++;
    return x[i] == best ? i : 0;
}

void kernel_panel_max(const float *x, int32_t n, float *max)
{
    for (int32_t i = 0; i < n; i += PANEL)
        *max++ = max_of(x + i, n - i < PANEL ? n - i : PANEL);
}

/* Puts x into the sorted list of *n out of k; an equal score stays behind what came earlier. */
static void insert(t5_candidate *list, int32_t *n, int32_t k, float x, int32_t token)
{
    int32_t i = *n < k ? (*n)++ : k - 1;
    for (; i > 0 && list[i - 1].score < x; i--)
        list[i] = list[i - 1];
    list[i] = (t5_candidate){.score = x, .token = token};
}

int32_t kernel_top_k(const float *x, int32_t n, int32_t k, t5_candidate *out)
{
    if (k > TOP_K_SHORT) return t5_vocab_ops_plain.top_k(x, n, k, out);
    int32_t n_out = 0;
    int32_t i = 0;
    for (; i < n && n_out < k; i++)
        insert(out, &n_out, k, x[i], i);
    if (k <= 0) return 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        uint32_t mask = v_mask_gt(v_load(x + i), v_set1(out[k - 1].score));
        for (; mask != 0; mask &= mask - 1) {
            const int32_t j = i + __builtin_ctz(mask);
            if (x[j] > out[k - 1].score) insert(out, &n_out, k, x[j], j);
        }
    }
    for (; i < n; i++) {
        if (x[i] > out[k - 1].score) insert(out, &n_out, k, x[i], i);
    }
    return n_out;
}
