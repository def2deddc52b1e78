/* model/zip.c: see zip.h. Layout (APPNOTE 6.3), all numbers little-endian:
 *
 *   local header + data, once per member
 *   central directory: one record per member, with the true sizes and the place of its local header
 *   [zip64 end record + zip64 locator, when a number does not fit its 16 or 32 bits]
 *   end record: number of records, size and place of the central directory
 *
 * Sizes are taken from the central directory, so it does not matter whether data descriptors follow the data. CRCs are
 * not checked: that would read the whole file, which is otherwise mapped and read when it is needed. */
#include "model/zip.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define END_BYTES 22
#define LOCATOR_BYTES 20
#define END64_BYTES 56
#define CENTRAL_BYTES 46
#define LOCAL_BYTES 30
#define COMMENT_MAX 65535

typedef struct {
    uint64_t n_members, n_bytes, offset;
} directory;

static uint32_t read_u16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t read_u32(const unsigned char *p)
{
    return read_u16(p) | read_u16(p + 2) << 16;
}

static uint64_t read_u64(const unsigned char *p)
{
    return read_u32(p) | (uint64_t)read_u32(p + 4) << 32;
}

static bool has_signature(const unsigned char *p, unsigned char c, unsigned char d)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == c && p[3] == d;
}

/* The end record is the last one whose comment ends with the file. */
static const unsigned char *find_end(const t5_mapped_file *file)
{
    for (size_t n_comment = 0; n_comment <= COMMENT_MAX && n_comment + END_BYTES <= file->n_bytes; n_comment++) {
        const unsigned char *p = file->data + file->n_bytes - END_BYTES - n_comment;
        if (has_signature(p, 5, 6) && read_u16(p + 20) == n_comment) return p;
    }
    return NULL;
}

static t5_status read_end64(const t5_mapped_file *file, size_t end_offset, directory *out, t5_error *err)
{
    const unsigned char *locator = end_offset >= LOCATOR_BYTES ? file->data + end_offset - LOCATOR_BYTES : NULL;
    if (locator == NULL || !has_signature(locator, 6, 7)) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: broken zip file: its zip64 locator is missing", file->path);
    }
    uint64_t offset = read_u64(locator + 8);
    if (offset > end_offset || end_offset - offset < END64_BYTES || !has_signature(file->data + offset, 6, 6)) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: broken zip file: its zip64 end record is missing", file->path);
    }
    const unsigned char *end64 = file->data + offset;
    *out = (directory){read_u64(end64 + 32), read_u64(end64 + 40), read_u64(end64 + 48)};
    return T5_OK;
}

static t5_status read_end(const t5_mapped_file *file, directory *out, t5_error *err)
{
    const unsigned char *end = find_end(file);
    if (end == NULL) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: not a whole zip file: it has no end record, so it was cut short",
                       file->path);
    }
    size_t end_offset = (size_t)(end - file->data);
    *out = (directory){read_u16(end + 10), read_u32(end + 12), read_u32(end + 16)};
    if (out->n_members == 0xffff || out->n_bytes == 0xffffffff || out->offset == 0xffffffff) {
        t5_status status = read_end64(file, end_offset, out, err);
        if (status != T5_OK) return status;
    }
    if (out->offset > end_offset || out->n_bytes > end_offset - out->offset ||
        out->n_members > out->n_bytes / CENTRAL_BYTES || out->n_members > T5_TENSORS_MAX) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: broken zip file: its central directory lies outside of it", file->path);
    }
    if (out->n_members == 0) return T5_FAIL(err, T5_ERR_FORMAT, "%s: the zip file is empty", file->path);
    return T5_OK;
}

/* The zip64 extra field holds, in this order, those of the three numbers that are saturated in the record. */
static bool read_extra64(const unsigned char *extra, size_t n_extra, uint64_t *numbers[3])
{
    while (n_extra >= 4) {
        size_t n_field = read_u16(extra + 2);
        if (n_field > n_extra - 4) return false;
        if (read_u16(extra) == 1) {
            const unsigned char *p = extra + 4;
            for (int i = 0; i < 3; i++) {
                if (*numbers[i] != 0xffffffff) continue;
                if (n_field < 8) return false;
                *numbers[i] = read_u64(p);
                p += 8;
                n_field -= 8;
            }
            return true;
        }
        extra += 4 + n_field;
        n_extra -= 4 + n_field;
    }
    return false;
}

/* Where the member's data begin: after its local header, whose name and extra field have their own lengths. */
static bool locate_data(const t5_mapped_file *file, const directory *dir, uint64_t local, uint64_t n_bytes,
                        t5_zip_member *member)
{
    if (local > dir->offset || dir->offset - local < LOCAL_BYTES) return false;
    const unsigned char *header = file->data + local;
    if (!has_signature(header, 3, 4)) return false;
    size_t n_name = read_u16(header + 26), n_head = LOCAL_BYTES + n_name + read_u16(header + 28);
    uint64_t n_left = dir->offset - local;
    if (n_head > n_left || n_bytes > n_left - n_head) return false;
    if (n_name != member->n_name || memcmp(header + LOCAL_BYTES, member->name, n_name) != 0) return false;
    member->data = header + n_head;
    member->n_bytes = (size_t)n_bytes;
    return true;
}

/* Reads the record at `p`, of which n_left bytes are in the directory; *out_bytes is its length. */
static t5_status read_member(const t5_mapped_file *file, const directory *dir, const unsigned char *p, size_t n_left,
                             t5_zip_member *out, size_t *out_bytes, t5_error *err)
{
    char name[120] = "", quoted[160];
    if (n_left < CENTRAL_BYTES || !has_signature(p, 1, 2)) goto broken;
    size_t n_name = read_u16(p + 28), n_extra = read_u16(p + 30);
    *out_bytes = CENTRAL_BYTES + n_name + n_extra + read_u16(p + 32);
    if (*out_bytes > n_left) goto broken;
    *out = (t5_zip_member){.name = (const char *)p + CENTRAL_BYTES, .n_name = n_name};
    memcpy(name, out->name, n_name < sizeof name ? n_name : sizeof name - 1);

    uint64_t n_packed = read_u32(p + 20), n_bytes = read_u32(p + 24), local = read_u32(p + 42);
    bool needs_extra = n_packed == 0xffffffff || n_bytes == 0xffffffff || local == 0xffffffff;
    uint64_t *numbers[3] = {&n_bytes, &n_packed, &local};
    if (needs_extra && !read_extra64(p + CENTRAL_BYTES + n_name, n_extra, numbers)) goto broken;
    if ((read_u16(p + 8) & 1) != 0 || read_u16(p + 10) != 0) {
        return T5_FAIL(err, T5_ERR_FORMAT, "%s: %s is compressed or encrypted; torch.save() stores its members plainly",
                       file->path, t5_log_quote(quoted, sizeof quoted, name));
    }
    if (n_packed != n_bytes || !locate_data(file, dir, local, n_bytes, out)) goto broken;
    return T5_OK;
broken:
    return T5_FAIL(err, T5_ERR_FORMAT, "%s: broken zip file: the record of member %s does not fit the file", file->path,
                   t5_log_quote(quoted, sizeof quoted, name));
}

static int compare_names(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order != 0 ? order : (n_a > n_b) - (n_a < n_b);
}

static int compare_members(const void *a, const void *b)
{
    const t5_zip_member *x = a, *y = b;
    return compare_names(x->name, x->n_name, y->name, y->n_name);
}

t5_status t5_zip_read(const t5_mapped_file *file, t5_zip *out, t5_error *err)
{
    directory dir;
    t5_zip zip = {0};
    t5_status status = T5_OK;
    T5_TRY(read_end(file, &dir, err));
    zip.members = calloc((size_t)dir.n_members, sizeof *zip.members);
    if (zip.members == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%s: list of %zu members", file->path, (size_t)dir.n_members);
        goto out;
    }
    const unsigned char *p = file->data + dir.offset;
    size_t n_left = (size_t)dir.n_bytes;
    for (; zip.n_members < dir.n_members; zip.n_members++) {
        size_t n_record = 0;
        T5_TRY(read_member(file, &dir, p, n_left, &zip.members[zip.n_members], &n_record, err));
        p += n_record;
        n_left -= n_record;
    }
    zip.first_name = zip.members[0].name;
    zip.n_first_name = zip.members[0].n_name;
    qsort(zip.members, zip.n_members, sizeof *zip.members, compare_members);
    for (size_t i = 1; i < zip.n_members; i++) {
        if (compare_members(&zip.members[i - 1], &zip.members[i]) != 0) continue;
        status = T5_FAIL(err, T5_ERR_FORMAT, "%s: broken zip file: two members have the same name", file->path);
        goto out;
    }
    *out = zip;
    zip = (t5_zip){0}; /* handed to the caller */
out:
    t5_zip_deinit(&zip);
    return status;
}

const t5_zip_member *t5_zip_find(const t5_zip *zip, const char *name, size_t n_name)
{
    const t5_zip_member key = {.name = name, .n_name = n_name};
    return bsearch(&key, zip->members, zip->n_members, sizeof key, compare_members);
}

void t5_zip_deinit(t5_zip *zip)
{
    free(zip->members);
    *zip = (t5_zip){0};
}
