/* server/keys.c: see keys.h. */
#include "server/keys.h"
#include "base/file.h"
#include "base/stdio.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES_MAX (8 << 20)
#define KEY_RANDOM_BYTES 24
#define LIMIT_MAX 1000000000

static void to_hex(const uint8_t *bytes, size_t n_bytes, char *out)
{
    for (size_t i = 0; i < n_bytes; i++)
        sprintf(out + 2 * i, "%02x", bytes[i]);
}

static bool from_hex(const char *text, uint8_t *out, size_t n_bytes)
{
    if (text == NULL || strlen(text) != 2 * n_bytes || strspn(text, "0123456789abcdef") != 2 * n_bytes) return false;
    for (size_t i = 0; i < n_bytes; i++)
        sscanf(text + 2 * i, "%2hhx", &out[i]);
    return true;
}

/* --- the file --- */

static bool read_limit(const json_t *entry, const char *name, int64_t *out)
{
    const json_t *value = json_object_get(entry, name);
    *out = json_is_integer(value) ? json_integer_value(value) : -1;
    return (value == NULL || json_is_integer(value)) && *out >= -1 && *out <= LIMIT_MAX;
}

static t5_status read_key(const json_t *entry, const char *path, size_t i, t5_key *out, t5_error *err)
{
    const char *id = json_string_value(json_object_get(entry, "id"));
    const char *name = json_string_value(json_object_get(entry, "name"));
    uint8_t id_bytes[(T5_KEY_ID_BYTES - 1) / 2];
    const char *wrong = NULL;
    *out = (t5_key){.created_s = json_integer_value(json_object_get(entry, "created"))};
    if (!from_hex(id, id_bytes, sizeof id_bytes)) wrong = "id";
    if (!from_hex(json_string_value(json_object_get(entry, "sha256")), out->hash, sizeof out->hash)) wrong = "sha256";
    if (name == NULL || strlen(name) >= T5_KEY_NAME_BYTES) wrong = "name";
    if (!read_limit(entry, "req_limit", &out->req_limit)) wrong = "req_limit";
    if (!read_limit(entry, "char_limit", &out->char_limit)) wrong = "char_limit";
    if (wrong != NULL) return T5_FAIL(err, T5_ERR_FORMAT, "%s: key %zu: %s is missing or wrong", path, i + 1, wrong);
    snprintf(out->id, sizeof out->id, "%s", id);
    snprintf(out->name, sizeof out->name, "%s", name);
    return T5_OK;
}

t5_status t5_keys_load(const char *path, t5_keys *out, t5_error *err)
{
    t5_status status = T5_OK;
    char *text = NULL;
    size_t n_bytes = 0, i = 0;
    json_t *root = NULL, *entry = NULL;
    json_error_t where;
    *out = (t5_keys){0};
    T5_TRY(t5_file_read(path, FILE_BYTES_MAX, &text, &n_bytes, err));
    root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &where);
    const json_t *list = json_object_get(root, "keys");
    if (root == NULL) T5_TRY(T5_FAIL(err, T5_ERR_FORMAT, "%s: line %d: %s", path, where.line, where.text));
    if (!json_is_array(list) || json_array_size(list) > T5_KEYS_MAX)
        T5_TRY(T5_FAIL(err, T5_ERR_FORMAT, "%s: needs \"keys\", an array of at most %d", path, T5_KEYS_MAX));
    out->keys = calloc(json_array_size(list) + 1, sizeof *out->keys);
    if (out->keys == NULL) T5_TRY(T5_FAIL(err, T5_ERR_NOMEM, "%s: %zu keys", path, json_array_size(list)));
    json_array_foreach(list, i, entry)
    {
        T5_TRY(read_key(entry, path, i, &out->keys[i], err));
        out->n_keys++;
    }
out:
    json_decref(root);
    free(text);
    if (status != T5_OK) t5_keys_deinit(out);
    return status;
}

static json_t *describe(const t5_key *key)
{
    char hash[2 * sizeof key->hash + 1];
    to_hex(key->hash, sizeof key->hash, hash);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "id", key->id, "name", key->name, "sha256", hash, "created",
                     (json_int_t)key->created_s, "req_limit", (json_int_t)key->req_limit, "char_limit",
                     (json_int_t)key->char_limit);
}

/* The file that replaces `path` is whose that was, and has its readers: a service may have a user of its own. */
static bool keep_readers(int fd, const char *path)
{
    struct stat before;
    if (stat(path, &before) != 0) return errno == ENOENT;
    return fchown(fd, before.st_uid, before.st_gid) == 0 && fchmod(fd, before.st_mode & 0777) == 0;
}

/* A disk that fills up takes a part first and tells why at the next try. */
static bool write_all(int fd, const char *text, size_t n_bytes)
{
    for (size_t n_done = 0; n_done < n_bytes;) {
        const ssize_t n = write(fd, text + n_done, n_bytes - n_done);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) n_done += (size_t)n;
    }
    return true;
}

/* Writes beside the file, makes it last, and renames: a reader sees the old file or the new one. */
static t5_status replace_file(const char *path, const char *text, t5_error *err)
{
    char beside[4096];
    const int n = snprintf(beside, sizeof beside, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof beside) return T5_FAIL(err, T5_ERR_ARG, "the path is too long");
    const int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return T5_FAIL(err, T5_ERR_IO, "%s: %s", beside, strerror(errno));
    const bool is_written = keep_readers(fd, path) && write_all(fd, text, strlen(text)) && fsync(fd) == 0;
    const bool is_closed = close(fd) == 0;
    if (is_written && is_closed && rename(beside, path) == 0) return T5_OK;
    const int cause = errno;
    unlink(beside);
    return T5_FAIL(err, T5_ERR_IO, "%s: %s", path, strerror(cause));
}

t5_status t5_keys_save(const t5_keys *keys, const char *path, t5_error *err)
{
    t5_status status = T5_OK;
    json_t *list = json_array(), *root = json_pack("{s:O}", "keys", list);
    for (int32_t i = 0; i < keys->n_keys; i++)
        json_array_append_new(list, describe(&keys->keys[i]));
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(1)) : NULL;
    if (text == NULL || json_array_size(list) != (size_t)keys->n_keys)
        status = T5_FAIL(err, T5_ERR_NOMEM, "%s: %d keys", path, keys->n_keys);
    if (status == T5_OK) status = replace_file(path, text, err);
    free(text);
    json_decref(root);
    json_decref(list);
    return status;
}

void t5_keys_deinit(t5_keys *keys)
{
    free(keys->keys);
    *keys = (t5_keys){0};
}

/* --- keys --- */

static bool hash_key(const char *key, uint8_t out[32])
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, key, strlen(key), out) == 0;
}

t5_status t5_keys_add(t5_keys *keys, const char *name, int64_t req_limit, int64_t char_limit,
                      char out_key[T5_KEY_BYTES], t5_error *err)
{
    uint8_t random[KEY_RANDOM_BYTES], id[(T5_KEY_ID_BYTES - 1) / 2];
    t5_key key = {.created_s = time(NULL), .req_limit = req_limit, .char_limit = char_limit};
    if (keys->n_keys >= T5_KEYS_MAX) return T5_FAIL(err, T5_ERR_ARG, "there are %d keys already", keys->n_keys);
    if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof random) != 0 || gnutls_rnd(GNUTLS_RND_NONCE, id, sizeof id) != 0)
        return T5_FAIL(err, T5_ERR_IO, "no random numbers");
    memcpy(out_key, "t5-", 3);
    to_hex(random, sizeof random, out_key + 3);
    to_hex(id, sizeof id, key.id);
    snprintf(key.name, sizeof key.name, "%s", name);
    if (!hash_key(out_key, key.hash)) return T5_FAIL(err, T5_ERR_IO, "a key cannot be hashed");
    t5_key *grown = realloc(keys->keys, (size_t)(keys->n_keys + 1) * sizeof *grown);
    if (grown == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d keys", keys->n_keys + 1);
    keys->keys = grown;
    keys->keys[keys->n_keys++] = key;
    return T5_OK;
}

bool t5_keys_remove(t5_keys *keys, const char *id)
{
    for (int32_t i = 0; i < keys->n_keys; i++) {
        if (strcmp(keys->keys[i].id, id) != 0) continue;
        keys->n_keys--;
        memmove(&keys->keys[i], &keys->keys[i + 1], (size_t)(keys->n_keys - i) * sizeof *keys->keys);
        return true;
    }
    return false;
}

const t5_key *t5_keys_find(const t5_keys *keys, const char *key)
{
    uint8_t hash[32];
    const t5_key *found = NULL;
    if (!hash_key(key, hash)) return NULL;
    for (int32_t i = 0; i < keys->n_keys; i++)
        if (gnutls_memcmp(keys->keys[i].hash, hash, sizeof hash) == 0) found = &keys->keys[i];
    return found;
}

/* --- the command --- */

static const char usage[] = "usage: t5serve keys add --file FILE [--name NAME] [--req-limit N] [--char-limit N]\n"
                            "       t5serve keys list --file FILE\n"
                            "       t5serve keys remove --file FILE ID\n"
                            "\n"
                            "Keys for `t5serve --api-keys FILE`. A new key is shown once; the file has only its hash.\n"
                            "  --req-limit N    texts a minute of this key; -1: the server's\n"
                            "  --char-limit N   characters of one text; -1: the server's\n";

typedef struct {
    const char *path, *name, *id;
    int64_t req_limit, char_limit;
} command;

typedef struct {
    const char *name;
    t5_status (*set)(command *c, const char *name, const char *value, t5_error *err);
} command_flag;

static t5_status parse_limit(const char *flag, const char *value, int64_t *out, t5_error *err)
{
    char *end = NULL;
    errno = 0;
    *out = strtoll(value, &end, 10);
    if (errno == 0 && end != value && *end == '\0' && *out >= -1 && *out <= LIMIT_MAX) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "%s: '%.40s' is not a number from -1 to %d", flag, value, LIMIT_MAX);
}

static t5_status set_file(command *c, const char *name, const char *value, t5_error *err)
{
    (void)name;
    (void)err;
    c->path = value;
    return T5_OK;
}

static t5_status set_name(command *c, const char *name, const char *value, t5_error *err)
{
    bool is_fine = strlen(value) < T5_KEY_NAME_BYTES && t5_utf8_is_valid(value, strlen(value));
    for (const char *v = value; *v != '\0'; v++)
        is_fine = is_fine && (unsigned char)*v >= ' ' && *v != 127;
    c->name = value;
    if (is_fine) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "%s: at most %d bytes of printable UTF-8", name, T5_KEY_NAME_BYTES - 1);
}

static t5_status set_req_limit(command *c, const char *name, const char *value, t5_error *err)
{
    return parse_limit(name, value, &c->req_limit, err);
}

static t5_status set_char_limit(command *c, const char *name, const char *value, t5_error *err)
{
    return parse_limit(name, value, &c->char_limit, err);
}

static const command_flag flags[] = {
    {"--file", set_file}, {"--name", set_name}, {"--req-limit", set_req_limit}, {"--char-limit", set_char_limit}};

/* "--flag value" or "--flag=value", and the id where the action takes one. */
static t5_status parse_command(int argc, char **argv, bool takes_id, command *c, t5_error *err)
{
    *c = (command){.name = "", .req_limit = -1, .char_limit = -1};
    t5_status status = T5_OK;
    for (int i = 2; i < argc && status == T5_OK; i++) {
        const char *word = argv[i], *value = NULL;
        const command_flag *flag = NULL;
        const size_t n = strcspn(word, "=");
        if (word[0] != '-') {
            if (!takes_id || c->id != NULL)
                return T5_FAIL(err, T5_ERR_ARG, "unexpected argument '%.40s'\n%s", word, usage);
            c->id = word;
            continue;
        }
        for (size_t k = 0; k < T5_COUNT(flags); k++)
            if (strlen(flags[k].name) == n && memcmp(flags[k].name, word, n) == 0) flag = &flags[k];
        if (flag == NULL) return T5_FAIL(err, T5_ERR_ARG, "unknown flag %.40s; see t5serve keys --help", word);
        value = word[n] == '=' ? word + n + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) return T5_FAIL(err, T5_ERR_ARG, "flag %s: needs a value", flag->name);
        status = flag->set(c, flag->name, value, err);
    }
    if (status == T5_OK && c->path == NULL) status = T5_FAIL(err, T5_ERR_ARG, "--file is missing");
    return status;
}

static void print_list(const t5_keys *keys, FILE *out)
{
    fprintf(out, "%-8s  %-10s  %9s  %10s  %s\n", "id", "created", "req_limit", "char_limit", "name");
    for (int32_t i = 0; i < keys->n_keys; i++) {
        const t5_key *key = &keys->keys[i];
        const time_t created = (time_t)key->created_s;
        struct tm day = {0};
        char text[16] = "";
        if (gmtime_r(&created, &day) != NULL) strftime(text, sizeof text, "%Y-%m-%d", &day);
        fprintf(out, "%-8s  %-10s  %9" PRId64 "  %10" PRId64 "  %s\n", key->id, text, key->req_limit, key->char_limit,
                key->name);
    }
}

/* Who changes a file of keys holds its folder: of two at once the second would undo what the first did. */
static t5_status lock_folder(const char *path, int *out_fd, t5_error *err)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    const int n_bytes = slash == NULL ? 0 : slash == path ? 1 : (int)(slash - path);
    if ((size_t)n_bytes >= sizeof folder) return T5_FAIL(err, T5_ERR_ARG, "the path is too long");
    snprintf(folder, sizeof folder, "%.*s", n_bytes > 0 ? n_bytes : 1, n_bytes > 0 ? path : ".");
    *out_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out_fd >= 0 && flock(*out_fd, LOCK_EX) == 0) return T5_OK;
    return T5_FAIL(err, T5_ERR_IO, "%s: %s", folder, strerror(errno));
}

/* A new key is shown when the file has it, and one that cannot be shown is taken out again: nobody will ever have it.
 */
static t5_status show_key(t5_keys *keys, const char *key, const char *path, FILE *out, t5_error *err)
{
    t5_error ignored = {0};
    fprintf(out, "%s\n", key);
    if (t5_stdio_flush(out, err) == T5_OK) return T5_OK;
    keys->n_keys--;
    t5_keys_save(keys, path, &ignored);
    return err->status;
}

static t5_status change_keys(const command *c, bool is_add, FILE *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_keys keys = {0};
    int folder_fd = -1;
    char path[PATH_MAX], key[T5_KEY_BYTES] = "";
    T5_TRY(t5_file_target(c->path, path, err));
    T5_TRY(lock_folder(path, &folder_fd, err));
    if (!is_add || access(path, F_OK) == 0) T5_TRY(t5_keys_load(path, &keys, err));
    if (is_add) {
        T5_TRY(t5_keys_add(&keys, c->name, c->req_limit, c->char_limit, key, err));
    } else if (!t5_keys_remove(&keys, c->id)) {
        T5_TRY(T5_FAIL(err, T5_ERR_ARG, "no key has the id %.40s", c->id));
    }
    T5_TRY(t5_keys_save(&keys, path, err));
    if (is_add) T5_TRY(show_key(&keys, key, path, out, err));
out:
    if (folder_fd >= 0) close(folder_fd);
    t5_keys_deinit(&keys);
    return status;
}

static t5_status list_keys(const command *c, FILE *out, t5_error *err)
{
    t5_keys keys = {0};
    if (t5_keys_load(c->path, &keys, err) != T5_OK) return err->status;
    print_list(&keys, out);
    t5_keys_deinit(&keys);
    return t5_stdio_flush(out, err);
}

t5_status t5_keys_command(int argc, char **argv, FILE *out, t5_error *err)
{
    command c;
    bool wants_help = false;
    for (int i = 1; i < argc; i++)
        wants_help = wants_help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (wants_help) {
        fputs(usage, out);
        return t5_stdio_flush(out, err);
    }
    const char *action = argc > 1 ? argv[1] : "";
    const bool is_add = strcmp(action, "add") == 0, is_remove = strcmp(action, "remove") == 0;
    if (!is_add && !is_remove && strcmp(action, "list") != 0)
        return T5_FAIL(err, T5_ERR_ARG, "keys '%.40s': add, list or remove; see t5serve keys --help", action);
    if (parse_command(argc, argv, is_remove, &c, err) != T5_OK) return err->status;
    if (is_remove && c.id == NULL) return T5_FAIL(err, T5_ERR_ARG, "which id? See t5serve keys list");
    return is_add || is_remove ? change_keys(&c, is_add, out, err) : list_keys(&c, out, err);
}
