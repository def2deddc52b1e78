/* tests/simt/collectives.cc: where fibers meet: the block's barrier, warp shuffles and votes, the lane-exact twins of
 * mma.sync and ldmatrix, and cp.async. What hardware leaves undefined is an error here, with the places in the code:
 * a barrier that is reached from two places or after threads have left, a lane outside its own mask, a shuffle from an
 * absent lane, two operations mixed in one warp. */
#include "tests/simt/grid.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace simt
{

static const char *const op_names[] = {"__shfl_sync", "__shfl_xor_sync", "__ballot_sync",
                                       "__syncwarp",  "mma.f16",         "mma.bf16",
                                       "ldmatrix",    "ldmatrix.trans",  "__reduce_max_sync"};

/* ---- tensor cores: PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix" ---- */

static void compute_mma(meeting *m, float (*to_float)(uint16_t))
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const uint16_t *a_regs = (const uint16_t *)m->pointers[lane][1];
        const uint16_t *b_regs = (const uint16_t *)m->pointers[lane][2];
        int group = lane >> 2, pair = (lane & 3) * 2;
        for (int i = 0; i < 8; i++)
            a[group + (i & 2 ? 8 : 0)][pair + (i & 1) + (i & 4 ? 8 : 0)] = to_float(a_regs[i]);
        for (int i = 0; i < 4; i++)
            b[pair + (i & 1) + (i & 2 ? 8 : 0)][group] = to_float(b_regs[i]);
    }
    for (int lane = 0; lane < 32; lane++) {
        float *d = (float *)m->pointers[lane][0];
        int group = lane >> 2, pair = (lane & 3) * 2;
        for (int i = 0; i < 4; i++) {
            int row = group + (i & 2 ? 8 : 0), col = pair + (i & 1);
            float sum = d[i];
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[k][col];
            d[i] = sum;
        }
    }
}

/* pointers[0]: the lane's 16-byte row; pointers[1]: its four 32-bit registers. */
static void compute_ldmatrix(meeting *m, bool is_transposed)
{
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < 4; i++) {
            uint16_t *out = (uint16_t *)m->pointers[lane][1] + i * 2;
            for (int e = 0; e < 2; e++) {
                int row = is_transposed ? (lane & 3) * 2 + e : lane >> 2;
                int col = is_transposed ? lane >> 2 : (lane & 3) * 2 + e;
                out[e] = ((const uint16_t *)m->pointers[i * 8 + row][0])[col];
            }
        }
    }
}

static void complete(meeting *m)
{
    m->is_complete = true;
    m->to_leave = m->arrived;
    if (m->op == SIMT_MMA_F16) compute_mma(m, simt_half_to_float);
    if (m->op == SIMT_MMA_BF16) compute_mma(m, simt_bf16_to_float);
    if (m->op == SIMT_LDMATRIX) compute_ldmatrix(m, false);
    if (m->op == SIMT_LDMATRIX_TRANS) compute_ldmatrix(m, true);
    fiber *self = current_fiber();
    for (int lane = 0; lane < 32; lane++) {
        bool waits = (m->arrived >> lane & 1) != 0 && m->lanes[lane] != self;
        if (waits) make_ready(m->lanes[lane]);
    }
}

/* The meeting of the warp that this lane belongs to with this mask, or a new one. */
static meeting *find_meeting(warp *w, unsigned lane, unsigned mask, simt_op op, simt_place place)
{
    for (unsigned left = w->used; left != 0; left &= left - 1) {
        meeting &m = w->meetings[__builtin_ctz(left)];
        if (m.is_complete || ((m.mask & mask) == 0 && (m.mask >> lane & 1) == 0)) continue;
        if (m.mask != mask || m.op != op)
            fail("lane %u is in %s (mask %08x) at %s:%d while its warp is in %s (mask %08x) at %s:%d", lane,
                 op_names[op], mask, place.file, place.line, op_names[m.op], m.mask, m.place.file, m.place.line);
        return &m;
    }
    int i_free = __builtin_ctz(~w->used);
    if (i_free >= WARP_MEETINGS)
        fail("more than %d collectives under way in a warp at %s:%d", WARP_MEETINGS, place.file, place.line);
    w->used |= 1u << i_free;
    meeting *m = &w->meetings[i_free];
    m->is_complete = false;
    m->arrived = 0;
    m->mask = mask;
    m->op = op;
    m->place = place;
    return m;
}

/* Arrives and waits until all lanes of the mask have. */
static meeting *meet(unsigned mask, simt_op op, const void *value, unsigned n_bytes, void *const *pointers,
                     simt_place place)
{
    fiber *f = current_fiber();
    warp *w = &f->home->warps[f->self.warp];
    unsigned lane = f->self.lane;
    if ((mask >> lane & 1) == 0)
        fail("%s at %s:%d: lane %u is not in its own mask %08x", op_names[op], place.file, place.line, lane, mask);
    meeting *m = find_meeting(w, lane, mask, op, place);
    m->arrived |= 1u << lane;
    m->lanes[lane] = f;
    if (value != nullptr) quiet_copy(m->values[lane], value, n_bytes);
    m->pointers[lane] = pointers;
    if (op == SIMT_SYNCWARP) release(m);
    bool may_be_absent = op != SIMT_MMA_F16 && op != SIMT_MMA_BF16 && op != SIMT_LDMATRIX && op != SIMT_LDMATRIX_TRANS;
    unsigned expected = may_be_absent ? mask & w->alive : mask;
    if ((m->arrived & expected) == expected) {
        complete(m);
    } else {
        wait_in(op_names[op], place);
    }
    if (op == SIMT_SYNCWARP) acquire(m);
    return m;
}

static void leave(meeting *m)
{
    fiber *f = current_fiber();
    warp *w = &f->home->warps[f->self.warp];
    m->to_leave &= ~(1u << f->self.lane);
    if (m->to_leave == 0) w->used &= ~(1u << (m - w->meetings));
}

/* ---- the block's barrier ---- */

static void open_barrier(barrier *bar)
{
    fiber *self = current_fiber();
    bar->result = bar->accumulated;
    bar->n_arrived = 0;
    bar->generation++;
    for (fiber *f : bar->waiting) {
        if (f != self) make_ready(f);
    }
    bar->waiting.clear();
}

void on_thread_exit(block *b, fiber *f)
{
    warp *w = &b->warps[f->self.warp];
    w->alive &= ~(1u << f->self.lane);
    b->n_alive--;
    for (unsigned left = w->used; left != 0; left &= left - 1) {
        meeting &m = w->meetings[__builtin_ctz(left)];
        if (!m.is_complete && (m.arrived & m.mask & w->alive) == (m.mask & w->alive)) complete(&m);
    }
    if (b->bar.n_arrived > 0)
        fail("thread %u of block (%u,%u,%u) returned while %d thread(s) wait at the barrier at %s:%d", f->self.thread.x,
             b->index.x, b->index.y, b->index.z, b->bar.n_arrived, b->bar.place.file, b->bar.place.line);
}

} // namespace simt

void simt_warp_compute(simt_op op, void *const pointers[3], simt_place place)
{
    simt::leave(simt::meet(~0u, op, nullptr, 0, pointers, place));
}

void simt_warp_exchange(unsigned mask, simt_op op, void *value, unsigned n_bytes, int arg, simt_place place)
{
    simt::meeting *m = simt::meet(mask, op, value, n_bytes, nullptr, place);
    int lane = (int)simt::current_fiber()->self.lane;
    if (op == SIMT_SHFL || op == SIMT_SHFL_XOR) {
        int from = op == SIMT_SHFL ? arg & 31 : (lane ^ arg) & 31;
        if ((m->arrived >> from & 1) == 0)
            simt::fail("%s at %s:%d: lane %d reads lane %d, which does not take part (mask %08x)", simt::op_names[op],
                       place.file, place.line, lane, from, mask);
        simt::quiet_copy(value, m->values[from], n_bytes);
    } else if (op == SIMT_BALLOT) {
        unsigned votes = 0;
        for (int i = 0; i < 32; i++) {
            if ((m->arrived >> i & 1) != 0 && m->values[i][0] != 0) votes |= 1u << i;
        }
        memcpy(value, &votes, sizeof votes);
    } else if (op == SIMT_REDUCE_MAX) {
        unsigned largest = 0;
        for (int i = 0; i < 32; i++) {
            unsigned other;
            memcpy(&other, m->values[i], sizeof other);
            if ((m->arrived >> i & 1) != 0 && other > largest) largest = other;
        }
        memcpy(value, &largest, sizeof largest);
    }
    simt::leave(m);
}

int simt_barrier(simt_barrier_kind kind, int predicate, simt_place place)
{
    simt::fiber *f = simt::current_fiber();
    simt::block *b = f->home;
    simt::barrier *bar = &b->bar;
    if (b->n_alive != b->n_threads)
        simt::fail("divergent barrier at %s:%d: %d of %d threads have returned", place.file, place.line,
                   b->n_threads - b->n_alive, b->n_threads);
    if (bar->n_arrived == 0) {
        bar->kind = kind;
        bar->place = place;
        bar->accumulated = 0;
    } else if (bar->place.line != place.line || bar->kind != kind) {
        simt::fail("divergent barrier: thread %u of block (%u,%u,%u) is at %s:%d, %d other(s) at %s:%d",
                   f->self.thread.x, b->index.x, b->index.y, b->index.z, place.file, place.line, bar->n_arrived,
                   bar->place.file, bar->place.line);
    }
    if (predicate != 0) bar->accumulated = 1;
    char *tag = &bar->tags[bar->generation & 1];
    bar->n_arrived++;
    bar->waiting.push_back(f);
    simt::release(tag);
    if (bar->n_arrived == b->n_threads) {
        simt::open_barrier(bar);
    } else {
        simt::wait_in("__syncthreads", place);
    }
    simt::acquire(tag);
    return bar->result;
}

/* ---- cp.async: 16 bytes, zero-filled past src_bytes; lands as late or as early as the rules allow ---- */

static void copy_now(const simt::pending_copy &copy)
{
    memset(copy.dst, 0, 16);
    memcpy(copy.dst, copy.src, copy.src_bytes);
}

void simt_cp_async(void *dst, const void *src, unsigned src_bytes)
{
    simt::pending_copy copy = {dst, src, src_bytes};
    if (!simt::config.copies_late) {
        copy_now(copy);
        return;
    }
    memset(dst, 0xff, 16);
    auto &groups = simt::current_fiber()->copies;
    if (groups.empty()) groups.resize(1);
    groups.back().push_back(copy);
}

void simt_cp_commit(void)
{
    if (!simt::config.copies_late) return;
    auto &groups = simt::current_fiber()->copies;
    if (groups.empty()) groups.resize(1);
    groups.emplace_back();
}

void simt_cp_wait(int n_pending_max)
{
    auto &groups = simt::current_fiber()->copies;
    while (!groups.empty() && (int)groups.size() - 1 > n_pending_max) {
        for (const simt::pending_copy &copy : groups[0])
            copy_now(copy);
        groups.erase(groups.begin());
    }
    if (groups.size() == 1 && groups[0].empty()) groups.clear();
}
