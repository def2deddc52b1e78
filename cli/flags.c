/* cli/flags.c: see flags.h. A value may follow its flag as the next argument or after "=". Boolean decoding options may
 * stand without a value; they take the next argument only when it is one of their values, so that a file name after
 * --do-sample stays a file name. No value and no operand may be empty: that is a script's unset variable. */
#include "cli/flags.h"
#include "model/decoding.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is left of the command line, and the flag in hand. */
typedef struct {
    int argc;
    char **argv;
    int i;                       /* next argument to read */
    char name[T5_FLAG_NAME_MAX]; /* "--model" */
    const char *inline_value;    /* after "=", or NULL */
} cursor;

static const t5_flag *flag_at(const t5_command_line *line, size_t i)
{
    return i < line->n_flags ? &line->flags[i] : &line->shared[i - line->n_flags];
}

static void print_decoding_help(const t5_command_line *line)
{
    printf("\nDecoding, as Hugging Face's generate() defines it; what is not given comes from the model folder:\n");
    t5_decoding_print_help(stdout);
    for (size_t i = 0; i < line->n_fixed; i++) {
        printf("  not --");
        for (const char *p = line->fixed[i]; *p != '\0'; p++)
            putchar(*p == '_' ? '-' : *p);
        printf(": t5 %s sets it\n", line->name);
    }
}

static void print_help(const t5_command_line *line)
{
    printf("usage: t5 %s [options]%s%s\n\n%s\n\nOptions:\n", line->name, line->operands[0] == '\0' ? "" : " ",
           line->operands, line->about);
    for (size_t i = 0; i < line->n_flags + line->n_shared; i++) {
        const t5_flag *flag = flag_at(line, i);
        char left[T5_FLAG_NAME_MAX + 24];
        snprintf(left, sizeof left, "%s %s", flag->name, flag->value_name == NULL ? "" : flag->value_name);
        printf("  %-26s %s\n", left, flag->help);
    }
    printf("  %-26s %s\n", "--help", "this text");
    if (line->decoding != NULL) print_decoding_help(line);
}

/* Splits "--name=value". */
static t5_status take_name(cursor *c, const char *command, t5_error *err)
{
    const char *argument = c->argv[c->i++];
    const char *equals = strchr(argument, '=');
    size_t n_bytes = equals == NULL ? strlen(argument) : (size_t)(equals - argument);
    c->inline_value = equals == NULL ? NULL : equals + 1;
    if (n_bytes >= sizeof c->name)
        return T5_FAIL(err, T5_ERR_ARG, "unknown option %.40s...; see t5 %s --help", argument, command);
    memcpy(c->name, argument, n_bytes);
    c->name[n_bytes] = '\0';
    return T5_OK;
}

static t5_status take_value(cursor *c, const char **out, t5_error *err)
{
    if (c->inline_value != NULL) {
        *out = c->inline_value;
    } else if (c->i < c->argc && strncmp(c->argv[c->i], "--", 2) != 0) {
        *out = c->argv[c->i++];
    } else {
        return T5_FAIL(err, T5_ERR_ARG, "%s needs a value", c->name);
    }
    return T5_OK;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t n_bytes = strlen(value);
    for (const char *p = choices; p != NULL; p = strchr(p, '|')) {
        if (*p == '|') p++;
        if (strncmp(p, value, n_bytes) == 0 && (p[n_bytes] == '|' || p[n_bytes] == '\0') && n_bytes > 0) return true;
    }
    return false;
}

static t5_status parse_number(const t5_flag *flag, const char *value, t5_error *err)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0 || number < flag->min || number > flag->max)
        return T5_FAIL(err, T5_ERR_ARG, "%s %.80s: must be a whole number from %d to %d", flag->name, value, flag->min,
                       flag->max);
    *flag->number = (int32_t)number;
    return T5_OK;
}

static t5_status set_flag(cursor *c, const t5_flag *flag, t5_error *err)
{
    if (flag->is_on != NULL) {
        if (c->inline_value != NULL) return T5_FAIL(err, T5_ERR_ARG, "%s takes no value", flag->name);
        *flag->is_on = true;
        return T5_OK;
    }
    const char *value = NULL;
    t5_status status = take_value(c, &value, err);
    if (status != T5_OK) return status;
    if (flag->number != NULL) return parse_number(flag, value, err);
    if (flag->choices != NULL && !is_choice(flag->choices, value))
        return T5_FAIL(err, T5_ERR_ARG, "%s %.80s: must be one of %s", flag->name, value, flag->choices);
    if (value[0] == '\0') return T5_FAIL(err, T5_ERR_ARG, "%s: the value is empty", flag->name);
    *flag->text = value;
    return T5_OK;
}

static bool is_accepted(const char *name, const char *value)
{
    t5_decoding trial;
    t5_error ignored = {0};
    t5_decoding_init(&trial);
    return t5_decoding_set_text(&trial, name, value, &ignored) == T5_OK;
}

/* early_stopping is none: it knows "never" too. */
static bool is_boolean(const char *name)
{
    return is_accepted(name, "true") && !is_accepted(name, "never");
}

static bool is_fixed(const t5_command_line *line, const char *name)
{
    for (size_t i = 0; i < line->n_fixed; i++) {
        if (strcmp(line->fixed[i], name) == 0) return true;
    }
    return false;
}

/* `name` has underscores and is an option of decoding.def. */
static t5_status set_decoding(cursor *c, const char *name, t5_decoding_flags *flags, t5_error *err)
{
    const char *value = NULL;
    bool has_next = c->inline_value == NULL && c->i < c->argc;
    if (c->inline_value == NULL && is_boolean(name) && !(has_next && is_accepted(name, c->argv[c->i]))) {
        value = "true";
    } else {
        t5_status status = take_value(c, &value, err);
        if (status != T5_OK) return status;
    }
    t5_decoding trial;
    t5_decoding_init(&trial);
    t5_status status = t5_decoding_set_text(&trial, name, value, err);
    if (status != T5_OK) return status;
    if (flags->n_items == T5_DECODING_FLAGS_MAX) return T5_FAIL(err, T5_ERR_ARG, "too many decoding options");
    snprintf(flags->items[flags->n_items].name, sizeof flags->items[0].name, "%s", name);
    flags->items[flags->n_items++].value = value;
    return T5_OK;
}

static t5_status set_option(cursor *c, const t5_command_line *line, t5_error *err)
{
    for (size_t i = 0; i < line->n_flags + line->n_shared; i++) {
        if (strcmp(flag_at(line, i)->name, c->name) == 0) return set_flag(c, flag_at(line, i), err);
    }
    char name[T5_FLAG_NAME_MAX];
    snprintf(name, sizeof name, "%s", c->name + 2);
    for (char *p = name; *p != '\0'; p++) {
        if (*p == '-') *p = '_';
    }
    if (is_fixed(line, name)) return T5_FAIL(err, T5_ERR_ARG, "%s: t5 %s sets it itself", c->name, line->name);
    if (line->decoding != NULL && t5_decoding_has(name)) return set_decoding(c, name, line->decoding, err);
    return T5_FAIL(err, T5_ERR_ARG, "unknown option %s; see t5 %s --help", c->name, line->name);
}

static t5_status set_operand(const t5_command_line *line, const char *argument, t5_error *err)
{
    if (line->operand == NULL || *line->operand != NULL)
        return T5_FAIL(err, T5_ERR_ARG, "unexpected argument %.80s; see t5 %s --help", argument, line->name);
    if (argument[0] == '\0') return T5_FAIL(err, T5_ERR_ARG, "%s: the argument is empty", line->operands);
    *line->operand = argument;
    return T5_OK;
}

t5_status t5_flags_parse(const t5_command_line *line, int argc, char **argv, t5_flags_action *out, t5_error *err)
{
    cursor c = {.argc = argc, .argv = argv, .i = 1};
    bool has_ended = false; /* "--" was seen: only operands follow */
    *out = T5_FLAGS_RUN;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) break;
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        print_help(line);
        *out = T5_FLAGS_HELP;
        return T5_OK;
    }
    while (c.i < argc) {
        const char *argument = argv[c.i];
        t5_status status = T5_OK;
        if (has_ended || argument[0] != '-' || strcmp(argument, "-") == 0) {
            status = set_operand(line, argument, err);
            c.i++;
        } else if (strcmp(argument, "--") == 0) {
            has_ended = true;
            c.i++;
        } else if (argument[1] != '-') {
            status = T5_FAIL(err, T5_ERR_ARG, "unknown option %.80s; see t5 %s --help", argument, line->name);
        } else if ((status = take_name(&c, line->name, err)) == T5_OK) {
            status = set_option(&c, line, err);
        }
        if (status != T5_OK) return status;
    }
    return T5_OK;
}

bool t5_decoding_flags_has(const t5_decoding_flags *flags, const char *name)
{
    for (int32_t i = 0; i < flags->n_items; i++) {
        if (strcmp(flags->items[i].name, name) == 0) return true;
    }
    return false;
}
