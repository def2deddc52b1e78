/* tokenizer/charsmap_check.c: walks the double-array trie of a character map as the library would.
 *
 * A node is a position p of the array; its unit holds an offset, a label and a leaf flag. The children of p lie at
 * (p ^ offset) ^ c for the next byte c, and the library reads that unit before it compares its label with c, so the
 * whole block of 256 units around (p ^ offset) must exist. Subtrees may be shared (a DAG); a cycle would be a path
 * without end, which the depth limit finds. Each node is expanded once: 256 reads per node, a few milliseconds for the
 * usual map of 0.2 MB. */
#include "base/utf8.h"
#include "tokenizer/spm_check.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 256
#define DEPTH_MAX 200   /* bytes of a key; real ones have at most 20 */
#define PREFIXES_MAX 32 /* the library's result buffer of one look-up */
#define NOT_WALKED 0xFF

typedef struct {
    const unsigned char *units; /* little-endian u32 each */
    size_t n_units;
    const char *texts; /* NUL-terminated replacements, one after the other */
    size_t texts_bytes;
    unsigned char *prefixes; /* per node: most keys on one path from here down, or NOT_WALKED */
    const char *path;
} charsmap;

static uint32_t read_u32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* The fields of a Darts unit. A leaf's value has the top bit set, which no label of a byte has. */
static uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

static bool unit_has_leaf(uint32_t unit)
{
    return (unit >> 8 & 1) != 0;
}

static uint32_t unit_label(uint32_t unit)
{
    return unit & (1u << 31 | 0xFF);
}

static t5_status walk(charsmap *map, size_t node, int depth, t5_error *err)
{
    uint32_t unit = read_u32(map->units + 4 * node);
    size_t base = node ^ unit_offset(unit);
    bool is_key = depth > 0 && unit_has_leaf(unit); /* the library asks from the first byte on */
    int prefixes = 0;

    if (depth > DEPTH_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the character map has a key of over %d bytes", map->path, DEPTH_MAX);
    if (base >= map->n_units)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the character map points outside itself", map->path);
    if (is_key && (read_u32(map->units + 4 * base) & ~(1u << 31)) >= map->texts_bytes)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the character map names a text that is not there", map->path);
    for (size_t c = 0; c < BLOCK; c++) {
        size_t child = base ^ c;
        if (unit_label(read_u32(map->units + 4 * child)) != c) continue;
        if (map->prefixes[child] == NOT_WALKED) {
            t5_status status = walk(map, child, depth + 1, err);
            if (status != T5_OK) return status;
        }
        if (map->prefixes[child] > prefixes) prefixes = map->prefixes[child];
    }
    if (prefixes + is_key > PREFIXES_MAX)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the character map nests over %d keys", map->path, PREFIXES_MAX);
    map->prefixes[node] = (unsigned char)(prefixes + is_key);
    return T5_OK;
}

t5_status t5_charsmap_check(const unsigned char *map_bytes, size_t n_bytes, const char *path, t5_error *err)
{
    if (n_bytes == 0) return T5_OK;
    size_t trie_bytes = n_bytes > 4 ? read_u32(map_bytes) : 0;
    if (trie_bytes == 0 || trie_bytes % (4 * (size_t)BLOCK) != 0 || trie_bytes >= n_bytes - 4)
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the character map of %zu bytes claims a trie of %zu", path, n_bytes,
                       trie_bytes);

    charsmap map = {.units = map_bytes + 4, .n_units = trie_bytes / 4, .path = path};
    map.texts = (const char *)map.units + trie_bytes;
    map.texts_bytes = n_bytes - 4 - trie_bytes;
    if (map.texts[map.texts_bytes - 1] != '\0' || !t5_utf8_is_valid(map.texts, map.texts_bytes))
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: the texts of the character map are not valid", path);
    map.prefixes = malloc(map.n_units);
    if (map.prefixes == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu bytes", path, map.n_units);
    memset(map.prefixes, NOT_WALKED, map.n_units);
    t5_status status = walk(&map, 0, 0, err);
    free(map.prefixes);
    return status;
}
