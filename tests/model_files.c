/* tests/model_files.c: see model_files.h. */
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void bytes_add(bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->n_allocated) {
        b->n_allocated = 2 * (b->n + n);
        b->at = realloc(b->at, b->n_allocated);
        assert_non_null(b->at);
    }
    if (n > 0) memcpy(b->at + b->n, data, n);
    b->n += n;
}

void bytes_add_text(bytes *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

void bytes_add_number(bytes *b, uint64_t number, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++, number >>= 8)
        bytes_add(b, &(unsigned char){(unsigned char)(number & 0xff)}, 1);
}

void bytes_free(bytes *b)
{
    free(b->at);
    *b = (bytes){0};
}

void folder_make(char *out, size_t out_bytes)
{
    const char *parent = getenv("TMPDIR");
    snprintf(out, out_bytes, "%s/t5-test-XXXXXX", parent != NULL ? parent : "/tmp");
    assert_non_null(mkdtemp(out));
}

void folder_clear(const char *dir)
{
    DIR *entries = opendir(dir);
    assert_non_null(entries);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) assert_int_equal(remove(path), 0);
    }
    closedir(entries);
}

void folder_remove(const char *dir)
{
    folder_clear(dir);
    assert_int_equal(rmdir(dir), 0);
}

int folder_set_up(void **state)
{
    static char dir[256];
    folder_make(dir, sizeof dir);
    *state = dir;
    return 0;
}

int folder_tear_down(void **state)
{
    folder_remove(*state);
    return 0;
}

void file_write(const char *dir, const char *name, const void *data, size_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (n > 0) assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

void file_patch(const char *dir, const char *name, size_t at, const void *data, size_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

void file_write_text(const char *dir, const char *name, const char *text)
{
    file_write(dir, name, text, strlen(text));
}

bytes file_read(const char *dir, const char *name)
{
    char path[1024], block[65536];
    bytes b = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (size_t n = fread(block, 1, sizeof block, file); n > 0; n = fread(block, 1, sizeof block, file))
        bytes_add(&b, block, n);
    fclose(file);
    return b;
}

void file_copy(const char *from_dir, const char *to_dir, const char *name)
{
    bytes b = file_read(from_dir, name);
    file_write(to_dir, name, b.at, b.n);
    bytes_free(&b);
}

void safetensors_write(const char *dir, const char *name, const char *header, size_t n_data)
{
    bytes b = {0};
    bytes_add_number(&b, strlen(header), 8);
    bytes_add_text(&b, header);
    for (size_t i = 0; i < n_data; i++)
        bytes_add_number(&b, i, 1);
    file_write(dir, name, b.at, b.n);
    bytes_free(&b);
}

void safetensors_add_int8(const char *dir, const char *tensor, int32_t n_rows, int32_t n_cols)
{
    bytes old = file_read(dir, "model.safetensors"), b = {0};
    char quoted[160], entries[640];
    uint64_t n_header = 0, n_rest = 0;
    memcpy(&n_header, old.at, sizeof n_header);
    n_rest = old.n - 8 - n_header;
    snprintf(quoted, sizeof quoted, "\"%s\":", tensor);
    char *place = memmem(old.at + 8, n_header, quoted, strlen(quoted));
    if (place != NULL) place[1] = '_';
    const uint64_t scales_at = n_rest + (uint64_t)n_rows * (uint64_t)n_cols;
    const uint64_t end = scales_at + (uint64_t)n_rows * sizeof(float);
    snprintf(entries, sizeof entries,
             ",%s{\"dtype\":\"I8\",\"shape\":[%d,%d],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}"
             ",\"%s_scale\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}}",
             quoted, n_rows, n_cols, n_rest, scales_at, tensor, n_rows, scales_at, end);
    while (old.at[8 + n_header - 1] != '}')
        n_header--;
    n_header--; /* the brace that the new entries end with */
    bytes_add_number(&b, n_header + strlen(entries), 8);
    bytes_add(&b, old.at + 8, n_header);
    bytes_add_text(&b, entries);
    bytes_add(&b, old.at + old.n - n_rest, n_rest);
    for (uint64_t i = n_rest; i < end; i++)
        bytes_add_number(&b, 0, 1);
    file_write(dir, "model.safetensors", b.at, b.n);
    bytes_free(&old);
    bytes_free(&b);
}

void zip_add(zip_writer *zip, const char *name, const void *data, size_t n)
{
    size_t place = zip->file.n;
    bool has_descriptor = (zip->flags & 8) != 0;
    bytes_add(&zip->file, "PK\3\4", 4);
    bytes_add_number(&zip->file, 0, 2);
    bytes_add_number(&zip->file, (uint64_t)zip->flags, 2);
    bytes_add_number(&zip->file, 0, 10); /* method, time, date, CRC */
    bytes_add_number(&zip->file, has_descriptor ? 0 : n, 4);
    bytes_add_number(&zip->file, has_descriptor ? 0 : n, 4);
    bytes_add_number(&zip->file, strlen(name), 2);
    bytes_add_number(&zip->file, (uint64_t)zip->extra_bytes, 2);
    bytes_add_text(&zip->file, name);
    for (int i = 0; i < zip->extra_bytes; i++)
        bytes_add(&zip->file, "Z", 1);
    bytes_add(&zip->file, data, n);
    if (has_descriptor) {
        bytes_add(&zip->file, "PK\7\10", 4);
        bytes_add_number(&zip->file, 0, 4); /* CRC */
        bytes_add_number(&zip->file, n, 4);
        bytes_add_number(&zip->file, n, 4);
    }

    bytes_add(&zip->directory, "PK\1\2", 4);
    bytes_add_number(&zip->directory, 0, 4); /* versions */
    bytes_add_number(&zip->directory, (uint64_t)zip->flags, 2);
    bytes_add_number(&zip->directory, (uint64_t)zip->method, 2);
    bytes_add_number(&zip->directory, 0, 8); /* time, date, CRC */
    bytes_add_number(&zip->directory, zip->uses_zip64 ? 0xffffffff : n, 4);
    bytes_add_number(&zip->directory, zip->uses_zip64 ? 0xffffffff : n, 4);
    bytes_add_number(&zip->directory, strlen(name), 2);
    bytes_add_number(&zip->directory, zip->uses_zip64 ? 4 + 4 + 24 : 0, 2);
    bytes_add_number(&zip->directory, 0, 10); /* comment, disk, attributes */
    bytes_add_number(&zip->directory, zip->uses_zip64 ? 0xffffffff : place, 4);
    bytes_add_text(&zip->directory, name);
    if (zip->uses_zip64) {
        bytes_add_number(&zip->directory, 0x1234, 2); /* a field that readers skip */
        bytes_add_number(&zip->directory, 0, 2);
        bytes_add_number(&zip->directory, 1, 2);
        bytes_add_number(&zip->directory, 24, 2);
        bytes_add_number(&zip->directory, n, 8);
        bytes_add_number(&zip->directory, n, 8);
        bytes_add_number(&zip->directory, place, 8);
    }
    zip->n_members++;
}

void zip_write(zip_writer *zip, const char *dir, const char *name)
{
    size_t place = zip->file.n;
    bytes_add(&zip->file, zip->directory.at, zip->directory.n);
    if (zip->uses_zip64) {
        size_t end_place = zip->file.n;
        bytes_add(&zip->file, "PK\6\6", 4);
        bytes_add_number(&zip->file, 44, 8);
        bytes_add_number(&zip->file, 0, 8); /* versions, disk */
        bytes_add_number(&zip->file, 0, 4);
        bytes_add_number(&zip->file, (uint64_t)zip->n_members, 8);
        bytes_add_number(&zip->file, (uint64_t)zip->n_members, 8);
        bytes_add_number(&zip->file, zip->directory.n, 8);
        bytes_add_number(&zip->file, place, 8);
        bytes_add(&zip->file, "PK\6\7", 4);
        bytes_add_number(&zip->file, 0, 4);
        bytes_add_number(&zip->file, end_place, 8);
        bytes_add_number(&zip->file, 1, 4);
    }
    bytes_add(&zip->file, "PK\5\6", 4);
    bytes_add_number(&zip->file, 0, 4); /* disks */
    bytes_add_number(&zip->file, zip->uses_zip64 ? 0xffff : (uint64_t)zip->n_members, 2);
    bytes_add_number(&zip->file, zip->uses_zip64 ? 0xffff : (uint64_t)zip->n_members, 2);
    bytes_add_number(&zip->file, zip->uses_zip64 ? 0xffffffff : zip->directory.n, 4);
    bytes_add_number(&zip->file, zip->uses_zip64 ? 0xffffffff : place, 4);
    bytes_add_number(&zip->file, 0, 2); /* comment */
    file_write(dir, name, zip->file.at, zip->file.n);
    bytes_free(&zip->file);
    bytes_free(&zip->directory);
    *zip = (zip_writer){0};
}

static void add_int(bytes *p, int32_t number)
{
    bytes_add(p, "J", 1);
    bytes_add_number(p, (uint32_t)number, 4);
}

void pickle_add_text(bytes *p, const char *text)
{
    bytes_add(p, "X", 1);
    bytes_add_number(p, strlen(text), 4);
    bytes_add_text(p, text);
}

void pickle_begin(bytes *p)
{
    bytes_add_text(p, "\x80\x02"
                      "ccollections\nOrderedDict\n)R(");
}

void pickle_add_tensor(bytes *p, const pickle_tensor *tensor, int is_stream)
{
    pickle_add_text(p, tensor->name);
    bytes_add_text(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_add_text(p, "storage");
    bytes_add_text(p, "ctorch\n");
    bytes_add_text(p, tensor->storage);
    bytes_add_text(p, "\n");
    pickle_add_text(p, tensor->key);
    pickle_add_text(p, "cpu");
    add_int(p, tensor->n_elements);
    bytes_add_text(p, is_stream ? "NtQ" : "tQ");
    add_int(p, tensor->offset);
    add_int(p, tensor->n_rows);
    add_int(p, tensor->n_cols);
    bytes_add_text(p, "\x86");
    add_int(p, tensor->row_stride);
    add_int(p, tensor->col_stride);
    bytes_add_text(p, "\x86\x89"
                      "ccollections\nOrderedDict\n)RtR");
}

void pickle_end(bytes *p)
{
    bytes_add_text(p, "u.");
}
