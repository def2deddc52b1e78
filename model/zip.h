/* model/zip.h: the members of a zip file whose members are stored, not compressed, as torch.save() writes them. Reads
 * the central directory of a mapped file and checks every member's place; nothing is copied. Any thread. */
#pragma once
#include "model/tensor_list.h"

T5_C_BEGIN

typedef struct {
    const char *name; /* n_name bytes, not NUL-terminated; borrowed */
    size_t n_name;
    const unsigned char *data; /* borrowed */
    size_t n_bytes;
} t5_zip_member;

typedef struct {
    t5_zip_member *members; /* sorted by name; names are unique */
    size_t n_members;
    const char *first_name; /* of the member that the directory lists first */
    size_t n_first_name;
} t5_zip;

/* Supports zip64 and data descriptors. Compressed or encrypted members are an error. Release with t5_zip_deinit(). */
t5_status t5_zip_read(const t5_mapped_file *file, t5_zip *out, t5_error *err);
/* NULL when there is no such member. */
const t5_zip_member *t5_zip_find(const t5_zip *zip, const char *name, size_t n_name);
void t5_zip_deinit(t5_zip *zip);

T5_C_END
