/* cli/tokenize.c: `t5 tokenize`: what the model sees of a text. Needs no weights. */
#include "cli/commands.h"
#include "cli/line_reader.h"
#include "cli/request_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Longest line in tokens: more than any model reads, so that an over-long text can still be looked at. */
#define LINE_TOKENS_MAX (1 << 24)

typedef struct {
    t5_tokenizer *tokenizer;
    int32_t vocab_size;
    bool is_json;
} context;

static const char *piece_of(const context *c, int32_t id)
{
    const char *piece = t5_tokenizer_piece(c->tokenizer, id);
    return piece != NULL ? piece : "<none>";
}

static t5_status put_ids(const context *c, const int32_t *ids, int32_t n_ids, t5_error *err)
{
    if (c->is_json) {
        json_t *id_array = json_array(), *pieces = json_array();
        for (int32_t i = 0; i < n_ids; i++) {
            json_array_append_new(id_array, json_integer(ids[i]));
            json_array_append_new(pieces, json_string(piece_of(c, ids[i])));
        }
        return t5_json_put(stdout, json_pack("{s:o, s:o}", "ids", id_array, "pieces", pieces), err);
    }
    for (int32_t i = 0; i < n_ids; i++)
        printf("%s%d", i == 0 ? "" : " ", ids[i]);
    for (int32_t i = 0; i < n_ids; i++)
        printf("%c%s", i == 0 ? '\t' : ' ', piece_of(c, ids[i]));
    putchar('\n');
    return T5_OK;
}

static t5_status encode_line(const context *c, const char *text, size_t n_bytes, t5_error *err)
{
    int32_t *ids = NULL;
    int32_t n_ids = 0;
    t5_status status = t5_tokenizer_encode_alloc(c->tokenizer, text, n_bytes, LINE_TOKENS_MAX, &ids, &n_ids, err);
    if (status == T5_OK) status = put_ids(c, ids, n_ids, err);
    free(ids);
    return status;
}

/* Ids separated by spaces, tabs or commas. */
static t5_status parse_ids(const context *c, const char *text, int32_t *ids, int32_t *out_n, t5_error *err)
{
    int32_t n_ids = 0;
    for (;;) {
        text += strspn(text, " \t,[]\r");
        if (*text == '\0') break;
        char *end = NULL;
        errno = 0;
        long id = strtol(text, &end, 10);
        if (end == text || errno != 0 || id < 0 || id >= c->vocab_size)
            return T5_FAIL(err, T5_ERR_ARG, "%.40s: not a token id below %d", text, c->vocab_size);
        ids[n_ids++] = (int32_t)id;
        text = end;
    }
    *out_n = n_ids;
    return T5_OK;
}

static t5_status decode_line(const context *c, const char *text, size_t n_bytes, t5_error *err)
{
    char *decoded = NULL;
    size_t decoded_bytes = 0;
    int32_t n_ids = 0;
    int32_t *ids = calloc(n_bytes / 2 + 1, sizeof *ids); /* an id and what separates it take two bytes */
    if (ids == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "a line of %zu bytes", n_bytes);
    t5_status status = T5_OK;
    T5_TRY(parse_ids(c, text, ids, &n_ids, err));
    T5_TRY(t5_tokenizer_decode(c->tokenizer, ids, n_ids, &decoded, &decoded_bytes, err));
    if (c->is_json) {
        T5_TRY(t5_json_put(stdout, json_pack("{s:s%}", "text", decoded, decoded_bytes), err));
    } else {
        t5_line_put(stdout, decoded, decoded_bytes);
    }
out:
    free(decoded);
    free(ids);
    return status;
}

static t5_status tokenize_lines(const context *c, const char *path, bool is_decode, t5_error *err)
{
    t5_line_reader *reader = NULL;
    char *text = NULL;
    t5_error cause = {0};
    t5_status status = t5_line_reader_open(path, &reader, err);
    if (status != T5_OK) return status;
    for (int64_t number = 1;; number++) {
        size_t n_bytes = 0;
        T5_TRY(t5_line_reader_next(reader, &text, &n_bytes, err));
        if (text == NULL) break;
        status = is_decode ? decode_line(c, text, n_bytes, &cause) : encode_line(c, text, n_bytes, &cause);
        if (status != T5_OK) {
            T5_FAIL(err, status, "%s:%lld: %s", t5_line_reader_name(reader), (long long)number, cause.text);
            goto out;
        }
        free(text);
        text = NULL;
        fflush(stdout);
    }
    if (ferror(stdout)) status = T5_FAIL(err, T5_ERR_IO, "stdout: %s", strerror(errno));
out:
    free(text);
    t5_line_reader_close(reader);
    return status;
}

static int tokenize(t5_model_flags *model, const char *path, bool is_decode, bool is_json)
{
    t5_error err = {0};
    const char *dir = NULL;
    t5_hparams hp;
    context c = {.is_json = is_json};
    t5_status status = t5_model_flags_dir(model, &dir, &err);
    if (status != T5_OK) goto out;
    T5_TRY(t5_open_tokenizer(dir, &hp, &c.tokenizer, &err));
    c.vocab_size = hp.vocab_size;
    T5_TRY(tokenize_lines(&c, path, is_decode, &err));
out:
    t5_tokenizer_close(c.tokenizer);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail("tokenize", T5_EXIT_FAILED, &err);
}

int t5_command_tokenize(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    const char *path = NULL;
    bool is_decode = false, is_json = false;
    const t5_flag flags[] = {
        {.name = "--decode", .help = "lines of token ids to text", .is_on = &is_decode},
        {.name = "--json", .help = "write {\"ids\", \"pieces\"}, or {\"text\"} with --decode", .is_on = &is_json},
    };
    const t5_command_line line = {
        .name = "tokenize",
        .operands = "[FILE]",
        .about =
            "Prints the token ids of each line of FILE, or of standard input, a tab, and their pieces. The end of\n"
            "sequence is included, as the model gets it. With --decode the lines are ids, separated by spaces or\n"
            "commas, and the text is printed.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = 1,
        .operand = &path,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    return tokenize(&model, path, is_decode, is_json);
}
