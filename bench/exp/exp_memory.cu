/* bench/exp/exp_memory.cu: experiment 1, memory: what a copy reaches, which is the roof of everything that only reads
 * weights, and how fast weights come from the L2 cache by footprint, alone and beside an encoder pass. Published row
 * for an H200: 9.5 to 10 TB/s up to 40 MB, all blocks reading the same. */
#include "bench/exp/device.cuh"

#include <vector>

static const size_t MB = (size_t)1 << 20;

struct copy_run {
    void *dst;
    const void *src;
    size_t n_bytes;
};

static t5_status run_copies(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    const copy_run *c = (const copy_run *)ctx;
    t5_status status = T5_OK;
    for (int i = 0; i < n && status == T5_OK; i++)
        status = T5_CUDA(err, cudaMemcpyAsync(c->dst, c->src, c->n_bytes, cudaMemcpyDeviceToDevice, stream));
    return status;
}

/* Bytes read and written by a second of copying. */
static t5_status run_copy(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    copy_run c = {};
    void *src = nullptr;
    double us = 0.0;
    c.n_bytes = (size_t)exp_choose(rig, 1024, 1) * MB;
    T5_TRY(exp_alloc(rig, c.n_bytes, &c.dst, err));
    T5_TRY(exp_alloc(rig, c.n_bytes, &src, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(src, 1, c.n_bytes, rig->stream)));
    c.src = src;
    T5_TRY(exp_time_stream(rig, run_copies, &c, 4, &us, err));
    exp_line(rig, "\"device\":\"%s\",\"mb\":%zu,\"tb_per_s\":%.3f", rig->device.name, c.n_bytes / MB,
             2.0 * 4.0 * (double)c.n_bytes / us / 1e6);
out:
    return status;
}

/* y[thread] = sum over `n_passes` of x[n]. Of each pass every block reads a share, or all of it (`shares`: the way of
 * the published rows). */
static __global__ void __launch_bounds__(512) read_kernel(const uint4 *x, size_t n, int n_passes, bool shares, uint4 *y)
{
    uint4 sum = make_uint4(0, 0, 0, 0);
    size_t first = shares ? threadIdx.x : (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    size_t step = shares ? blockDim.x : (size_t)gridDim.x * blockDim.x;
    for (int pass = 0; pass < n_passes; pass++) {
#pragma unroll 4
        for (size_t i = first; i < n; i += step) {
            uint4 v = t5_load16(x + i);
            sum.x += v.x;
            sum.y ^= v.y + (unsigned)pass;
            sum.z += v.z;
            sum.w ^= v.w + (unsigned)pass;
        }
    }
    y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

struct read_run {
    const uint4 *x;
    size_t n;
    unsigned n_blocks;
    bool shares;
    uint4 *y;
};

static t5_status run_read(void *ctx, int n, cudaStream_t stream, t5_error *err)
{
    const read_run *r = (const read_run *)ctx;
    return T5_CUDA(err, EXP_LAUNCH(read_kernel, dim3(r->n_blocks), dim3(512), 0, stream, exp_how{}, r->x, r->n, n,
                                   r->shares, r->y));
}

/* A long read of memory beside the measurement, on a quarter of the multiprocessors: what an encoder pass does to L2.
 */
static t5_status start_noise(exp_rig *rig, const read_run *r, size_t n_vectors, t5_error *err)
{
    read_run noise = *r;
    noise.n = n_vectors;
    noise.shares = false;
    noise.n_blocks = r->n_blocks / 8 + 1;
    return run_read(&noise, exp_choose(rig, 400, 1), rig->side, err);
}

/* Every thread's sum of one pass over ones: how many vectors it read. */
static t5_status check_read(exp_rig *rig, const read_run *r, void *ones, t5_error *err)
{
    t5_status status = T5_OK;
    read_run run = *r;
    std::vector<uint4> y((size_t)r->n_blocks * 512);
    double total = 0.0;
    run.x = (const uint4 *)ones;
    T5_TRY(run_read(&run, 1, rig->stream, err));
    T5_TRY(exp_download(rig, y.data(), r->y, y.size() * sizeof(uint4), err));
    for (const uint4 &v : y)
        total += v.x;
    if (total != (double)r->n * (r->shares ? r->n_blocks : 1))
        status = T5_FAIL(err, T5_ERR_FORMAT, "wrong result: %.0f of %zu vectors were read", total, r->n);
out:
    return status;
}

static t5_status run_l2(exp_rig *rig, t5_error *err)
{
    t5_status status = T5_OK;
    static const int footprints_mb[] = {4, 8, 16, 24, 32, 40, 48, 56, 64, 96, 256};
    size_t n_bytes = (size_t)exp_choose(rig, 512, 1) * MB;
    std::vector<uint4> ones(64 << 10, make_uint4(1, 0, 0, 0));
    void *x = nullptr, *dev_ones = nullptr;
    read_run r = {};
    r.n_blocks = (unsigned)rig->device.multiProcessorCount * 2;
    T5_TRY(exp_alloc(rig, n_bytes, &x, err));
    T5_TRY(T5_CUDA(err, cudaMemsetAsync(x, 0, n_bytes, rig->stream)));
    T5_TRY(exp_upload(rig, ones.data(), ones.size() * sizeof(uint4), &dev_ones, err));
    T5_TRY(exp_alloc(rig, (size_t)r.n_blocks * 512 * sizeof(uint4), (void **)&r.y, err));
    r.x = (const uint4 *)x;
    for (int footprint_mb : footprints_mb) {
        if (rig->is_rehearsal && footprint_mb > 4) break;
        for (int kind = 0; kind < 3; kind++) { /* each byte by one block; by all; by one, beside an encoder */
            double us = 0.0;
            int n_passes = exp_choose(rig, 2048 / footprint_mb + 2, 1);
            r.shares = kind == 1;
            r.n = ones.size();
            T5_TRY(check_read(rig, &r, dev_ones, err));
            r.n = (size_t)footprint_mb * MB / sizeof(uint4) / (rig->is_rehearsal ? 64 : 1);
            if (kind == 1) n_passes = n_passes / 64 + 1;
            if (kind == 2) T5_TRY(start_noise(rig, &r, n_bytes / sizeof(uint4), err));
            T5_TRY(exp_time_unit(rig, run_read, &r, n_passes, &us, err));
            T5_TRY(T5_CUDA(err, cudaStreamSynchronize(rig->side)));
            double bytes = (double)(r.n * sizeof(uint4)) * (r.shares ? r.n_blocks : 1);
            static const char *const kinds[] = {"one block a byte", "all blocks", "beside an encoder"};
            exp_line(rig, "\"mb\":%d,\"readers\":\"%s\",\"us\":%.2f,\"tb_per_s\":%.3f", footprint_mb, kinds[kind], us,
                     bytes / us / 1e6);
        }
    }
out:
    return status;
}

int main(int argc, char **argv)
{
    static const exp_case cases[] = {
        {"copy", "a gigabyte from device memory to device memory", run_copy},
        {"l2_read", "reading again and again, by footprint", run_l2},
    };
    exp_setup();
    return exp_main(argc, argv, 1, cases, T5_COUNT(cases));
}
