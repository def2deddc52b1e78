/* server/keys.h: API keys. The file holds a hash of each, so that who reads it cannot use them; a key is shown once,
 * when it is made. A key is 192 random bits, so a plain SHA-256 is enough (there is nothing to guess). Not shared
 * between threads while it changes. */
#pragma once
#include "base/error.h"
#include <stdint.h>
#include <stdio.h>

#define T5_KEY_BYTES 52 /* "t5-" and 48 hexadecimal digits, with NUL */
#define T5_KEY_ID_BYTES 9
#define T5_KEY_NAME_BYTES 64
#define T5_KEYS_MAX 10000

typedef struct {
    char id[T5_KEY_ID_BYTES]; /* how people name it: 8 hexadecimal digits */
    char name[T5_KEY_NAME_BYTES];
    uint8_t hash[32];
    int64_t created_s;  /* Unix time */
    int64_t req_limit;  /* requests a minute; -1: none of its own */
    int64_t char_limit; /* characters of one text; -1: none of its own */
} t5_key;

typedef struct {
    t5_key *keys;
    int32_t n_keys;
} t5_keys;

/* T5_ERR_IO: the file cannot be read; T5_ERR_FORMAT names what is wrong in it. Release with t5_keys_deinit(). */
t5_status t5_keys_load(const char *path, t5_keys *out, t5_error *err);
/* Replaces the file whole, or leaves it as it was; only its owner may read it. */
t5_status t5_keys_save(const t5_keys *keys, const char *path, t5_error *err);
void t5_keys_deinit(t5_keys *keys); /* accepts a zeroed one */
/* Adds a key of these limits; its text goes to `out_key` and is kept nowhere else. */
t5_status t5_keys_add(t5_keys *keys, const char *name, int64_t req_limit, int64_t char_limit,
                      char out_key[T5_KEY_BYTES], t5_error *err);
/* False when there is none of that id. */
bool t5_keys_remove(t5_keys *keys, const char *id);
/* The entry of a key that a client sent, or NULL. Its time does not tell how much of a key was right. */
const t5_key *t5_keys_find(const t5_keys *keys, const char *key);

/* `t5serve keys add|list|remove ...`: argv[0] is "keys". T5_ERR_ARG: used in a wrong way. */
t5_status t5_keys_command(int argc, char **argv, FILE *out, t5_error *err);
