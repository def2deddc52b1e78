/* cli/flags.h: the command line of one subcommand: a table of flags, decoding options under Hugging Face's names with
 * dashes, operands, --help. One thread. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

#define T5_DECODING_FLAGS_MAX 64
#define T5_FLAG_NAME_MAX 48

/* One flag. Exactly one of text, number and is_on is set: where its value goes. */
typedef struct {
    const char *name;       /* "--model" */
    const char *value_name; /* "DIR"; NULL for a switch */
    const char *help;
    const char **text;
    const char *choices; /* of a text: "auto|cpu"; NULL: anything */
    int32_t *number;
    int32_t min, max; /* of a number */
    bool *is_on;
} t5_flag;

/* Decoding options in the order they were given, checked against decoding.def but applied later, over the defaults of
 * the model folder. */
typedef struct {
    int32_t n_items;
    struct {
        char name[T5_FLAG_NAME_MAX]; /* with underscores */
        const char *value;           /* borrowed from argv */
    } items[T5_DECODING_FLAGS_MAX];
} t5_decoding_flags;

typedef struct {
    const char *name;     /* "translate" */
    const char *operands; /* "[FILE]" or "" */
    const char *about;    /* paragraphs for --help */
    const t5_flag *flags; /* its own */
    size_t n_flags;
    const t5_flag *shared; /* those it shares with other commands */
    size_t n_shared;
    t5_decoding_flags *decoding; /* NULL: the command takes no decoding options */
    const char *const *fixed;    /* decoding options, with underscores, that it sets itself and refuses */
    size_t n_fixed;
    const char **operand; /* receives the one operand; NULL: it takes none */
} t5_command_line;

typedef enum { T5_FLAGS_RUN, T5_FLAGS_HELP } t5_flags_action;

/* Reads argv[1 ..]. T5_ERR_ARG names the flag, what was given and what is allowed. --help anywhere prints the help to
 * stdout and sets *out to T5_FLAGS_HELP. */
t5_status t5_flags_parse(const t5_command_line *line, int argc, char **argv, t5_flags_action *out, t5_error *err);
/* True when the decoding option was given. */
bool t5_decoding_flags_has(const t5_decoding_flags *flags, const char *name);
