/* bench/exp/fibers.cc: see fibers.h. */
#include "bench/exp/fibers.h"
#include "tests/simt/grid.h"

#include <map>
#include <vector>

struct cluster {
    std::vector<simt::block *> blocks; /* by rank; NULL: has not begun */
    std::vector<simt::fiber *> waiting;
    size_t n_arrived = 0;
    unsigned generation = 0;
    char tags[2] = {0, 0}; /* for ThreadSanitizer; two, as the next barrier may begin before all have left this one */
};

struct exp_fibers_clusters {
    unsigned n_blocks; /* of a cluster */
    std::map<unsigned, cluster> clusters;
};

/* Of the block that the calling fiber is in. Kernels that overlap are under way together. */
static std::map<const simt::block *, exp_fibers_clusters *> clusters_of;

static exp_fibers_clusters &own_clusters()
{
    return *clusters_of.at(simt::current_fiber()->home);
}

void exp_fibers_setup()
{
    simt_config config = simt_config_get();
    config.order = SIMT_ORDER_FORWARD;
    config.resident = EXP_FIBERS_BLOCKS;
    simt_config_set(&config);
}

std::shared_ptr<exp_fibers_clusters> exp_fibers_create(unsigned cluster_blocks)
{
    auto clusters = std::make_shared<exp_fibers_clusters>();
    clusters->n_blocks = cluster_blocks;
    return clusters;
}

static cluster &own_cluster()
{
    exp_fibers_clusters &own = own_clusters();
    cluster &c = own.clusters[blockIdx.x / own.n_blocks];
    c.blocks.resize(own.n_blocks, nullptr);
    return c;
}

void exp_fibers_enter(exp_fibers_clusters *clusters)
{
    clusters_of[simt::current_fiber()->home] = clusters;
    own_cluster().blocks[exp_fibers_rank()] = simt::current_fiber()->home;
}

unsigned exp_fibers_rank()
{
    return blockIdx.x % own_clusters().n_blocks;
}

void exp_fibers_sync(simt_place place)
{
    cluster &c = own_cluster();
    char *tag = &c.tags[c.generation & 1];
    size_t n_threads = (size_t)blockDim.x * blockDim.y * blockDim.z * own_clusters().n_blocks;
    simt::release(tag);
    if (++c.n_arrived == n_threads) {
        c.n_arrived = 0;
        c.generation++;
        for (simt::fiber *f : c.waiting)
            simt::make_ready(f);
        c.waiting.clear();
    } else {
        c.waiting.reserve(n_threads);
        c.waiting.push_back(simt::current_fiber());
        simt::wait_in("a cluster's barrier", place);
    }
    simt::acquire(tag);
}

void *exp_fibers_map(const void *p, unsigned rank)
{
    simt::block *own = simt::current_fiber()->home;
    simt::block *other = rank < own_clusters().n_blocks ? own_cluster().blocks[rank] : nullptr;
    if (other == nullptr) simt::fail("distributed shared memory of block %u, which has not begun", rank);
    if (!other->is_live) simt::fail("distributed shared memory of block %u, which has ended", rank);
    const char *at = (const char *)p;
    size_t n_dynamic = simt::dynamic_shared_bytes();
    if (own->dynamic_shared != nullptr && at >= own->dynamic_shared && at < own->dynamic_shared + n_dynamic)
        return other->dynamic_shared + (at - own->dynamic_shared);
    for (const simt::shared_array &array : own->shared) {
        if (at < array.p || at >= array.p + array.n_bytes) continue;
        for (const simt::shared_array &twin : other->shared) {
            if (twin.key == array.key) return twin.p + (at - array.p);
        }
    }
    simt::fail("distributed shared memory: the address is in no shared array of both blocks");
}

void exp_fibers_yield(simt_place place)
{
    simt::make_ready(simt::current_fiber());
    simt::wait_in("a waiting loop", place);
}
