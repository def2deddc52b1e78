/* tests/model_files.h: makes model folders, good and broken ones, for the tests of the readers. A test program has one
 * thread; what goes wrong here is a failed test. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Growing bytes. Starts as {0}; bytes_free() releases it. */
typedef struct {
    unsigned char *at;
    size_t n, n_allocated;
} bytes;

void bytes_add(bytes *b, const void *data, size_t n);
void bytes_add_text(bytes *b, const char *text);
void bytes_add_number(bytes *b, uint64_t number, int n_bytes); /* little-endian */
void bytes_free(bytes *b);

/* Makes an empty folder for temporary files; folder_remove() deletes it and the files in it. */
void folder_make(char *out, size_t out_bytes);
void folder_remove(const char *dir);
void folder_clear(const char *dir);
/* A test with an empty folder as its *state. */
int folder_set_up(void **state);
int folder_tear_down(void **state);
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_set_up, folder_tear_down)
void file_write(const char *dir, const char *name, const void *data, size_t n);
/* Overwrites n bytes from byte `at` on. */
void file_patch(const char *dir, const char *name, size_t at, const void *data, size_t n);
void file_write_text(const char *dir, const char *name, const char *text);
bytes file_read(const char *dir, const char *name);
void file_copy(const char *from_dir, const char *to_dir, const char *name);

/* A safetensors file: length, header, n_data bytes counting up from 0. */
void safetensors_write(const char *dir, const char *name, const char *header, size_t n_data);

/* Adds an int8 tensor of zeros with its scales to dir/model.safetensors, in place of the one with this name if there is
 * one, which keeps its bytes under another name. */
void safetensors_add_int8(const char *dir, const char *tensor, int32_t n_rows, int32_t n_cols);

/* A zip file of stored members. `flags` are of the zip format: 8 adds a data descriptor. */
typedef struct {
    bytes file, directory;
    int n_members;
    int method; /* compression method that the directory claims; 0 is stored */
    int flags;
    int uses_zip64;  /* sizes and places in zip64 fields */
    int extra_bytes; /* padding of each local header, as torch.save() aligns */
} zip_writer;
void zip_add(zip_writer *zip, const char *name, const void *data, size_t n);
/* Appends directory and end record, writes dir/name and releases everything. */
void zip_write(zip_writer *zip, const char *dir, const char *name);

/* Parts of a pickle as torch.save() writes it. */
typedef struct {
    const char *name, *storage, *key; /* "shared.weight", "FloatStorage", "0" */
    int32_t n_elements, offset;
    int32_t n_rows, n_cols, row_stride, col_stride;
} pickle_tensor;
void pickle_begin(bytes *p); /* an OrderedDict */
void pickle_add_text(bytes *p, const char *text);
void pickle_add_tensor(bytes *p, const pickle_tensor *tensor, int is_stream);
void pickle_end(bytes *p);
