/* cli/shortlist.c: `t5 shortlist`: the file of a model folder that lists the pieces a target language needs. Needs no
 * weights. */
#include "translate/shortlist.h"
#include "cli/commands.h"
#include "cli/line_reader.h"
#include "cli/model_flags.h"
#include "text/langcodes.h"
#include "translate/profile.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *dir, *target, *input, *output;
    int32_t count_min;
    t5_tokenizer *tokenizer;
    t5_shortlist_maker maker;
} context;

/* The target in its public form; a language that the model does not write is a mistake. */
static t5_status check_target(const context *c, int32_t vocab_size, char code[T5_LANGCODE_BYTES], t5_error *err)
{
    t5_profile profile = {0};
    if (!t5_langcode_normalize(c->target, code))
        return T5_FAIL(err, T5_ERR_ARG, "--target %.32s: not a language code", c->target);
    t5_status status = t5_profile_load(c->dir, c->tokenizer, vocab_size, &profile, err);
    if (status == T5_OK && !t5_profile_has_target(&profile, code))
        status = T5_FAIL(err, T5_ERR_ARG, "--target %s: %s does not translate into it, see t5 inspect", code, c->dir);
    t5_profile_deinit(&profile);
    return status;
}

static t5_status count_lines(context *c, t5_error *err)
{
    t5_line_reader *reader = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    t5_error cause = {0};
    t5_status status = t5_line_reader_open(c->input, &reader, err);
    if (status != T5_OK) return status;
    for (int64_t number = 1;; number++) {
        T5_TRY(t5_line_reader_next(reader, &text, &n_bytes, err));
        if (text == NULL) break;
        status = t5_shortlist_maker_add(&c->maker, text, n_bytes, &cause);
        if (status != T5_OK) {
            T5_FAIL(err, status, "%s:%lld: %s", t5_line_reader_name(reader), (long long)number, cause.text);
            goto out;
        }
        free(text);
        text = NULL;
    }
    if (c->maker.n_tokens == 0) status = T5_FAIL(err, T5_ERR_ARG, "%s: no text", t5_line_reader_name(reader));
out:
    free(text);
    t5_line_reader_close(reader);
    return status;
}

static t5_status make(context *c, t5_error *err)
{
    t5_status status = T5_OK;
    t5_hparams hp;
    char code[T5_LANGCODE_BYTES], path[PATH_MAX];
    int32_t *ids = NULL, n_ids = 0;
    T5_TRY(t5_open_tokenizer(c->dir, &hp, &c->tokenizer, err));
    T5_TRY(check_target(c, hp.vocab_size, code, err));
    T5_TRY(t5_shortlist_path(c->dir, code, path, sizeof path, err));
    const char *output = c->output != NULL ? c->output : path;
    const t5_shortlist_vocab vocab = t5_shortlist_vocab_of(c->tokenizer, hp.vocab_size, hp.eos_id);
    T5_TRY(t5_shortlist_maker_init(&c->maker, &vocab, err));
    T5_TRY(count_lines(c, err));
    T5_TRY(t5_shortlist_maker_list(&c->maker, c->count_min, &ids, &n_ids, err));
    T5_TRY(t5_shortlist_write(output, &vocab, ids, n_ids, err));
    printf("%s: %d of %d pieces, from %lld tokens\n", output, n_ids, vocab.n_words, (long long)c->maker.n_tokens);
out:
    free(ids);
    t5_shortlist_maker_deinit(&c->maker);
    t5_tokenizer_close(c->tokenizer);
    return status;
}

int t5_command_shortlist(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    context c = {.count_min = 1};
    const t5_flag flags[] = {
        {.name = "--target", .value_name = "CODE", .help = "language of the text", .text = &c.target},
        {.name = "--count-min",
         .number = &c.count_min,
         .value_name = "N",
         .min = 1,
         .max = INT32_MAX,
         .help = "pieces that come less often are left out (default 1)"},
        {.name = "--out", .value_name = "FILE", .help = "write there, not into the model folder", .text = &c.output},
    };
    const t5_command_line line = {
        .name = "shortlist",
        .operands = "[FILE]",
        .about = "Reads text in the target language, FILE or standard input, and writes shortlist.CODE.json into the\n"
                 "model folder: the pieces of the vocabulary that the text is made of, and those with which anything\n"
                 "can be spelled. t5 translate --shortlist and t5serve --shortlist then choose among these alone when\n"
                 "they translate into that language on a CPU, which is faster and a little less exact. A hundred\n"
                 "thousand sentences are a good length; those the model was trained on are best.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = 1,
        .operand = &c.input,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    if (c.target == NULL) {
        T5_FAIL(&err, T5_ERR_ARG, "--target is missing: the language of the text");
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    }
    t5_status status = t5_model_flags_dir(&model, &c.dir, &err);
    if (status == T5_OK) status = make(&c, &err);
    return status == T5_OK ? T5_EXIT_OK : t5_command_fail(line.name, T5_EXIT_FAILED, &err);
}
