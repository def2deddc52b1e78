/* config/config.c: the table of settings, and everything that walks it: set one, print, help. See config.h. */
#include "base/limits.h"
#include "config/config_set.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum { KEY_TEXT, KEY_INT, KEY_BYTES, KEY_BOOL, KEY_LIST } key_type;

typedef struct {
    const char *name;
    key_type type;
    size_t offset;           /* of the value in t5_config */
    const char *text_value;  /* KEY_TEXT: default */
    const char *choices;     /* KEY_TEXT: "a|b|c", or "" */
    int64_t value, min, max; /* all others */
    const char *help;
} key_row;

static const key_row rows[] = {
#define T5_KEY_TEXT(name, value, choices, help) \
    {#name, KEY_TEXT, offsetof(t5_config, name), (value), (choices), 0, 0, 0, (help)},
#define T5_KEY_INT(name, value, min, max, help) \
    {#name, KEY_INT, offsetof(t5_config, name), "", "", (value), (min), (max), (help)},
#define T5_KEY_BYTES(name, value, min, max, help) \
    {#name, KEY_BYTES, offsetof(t5_config, name), "", "", (value), (min), (max), (help)},
#define T5_KEY_BOOL(name, value, help) {#name, KEY_BOOL, offsetof(t5_config, name), "", "", (value), 0, 1, (help)},
#define T5_KEY_LIST(name, help) {#name, KEY_LIST, offsetof(t5_config, name), "", "", 0, 0, 0, (help)},
#include "config/keys.def"
#undef T5_KEY_TEXT
#undef T5_KEY_INT
#undef T5_KEY_BYTES
#undef T5_KEY_BOOL
#undef T5_KEY_LIST
};

static void *value_at(t5_config *c, const key_row *row)
{
    return (char *)c + row->offset;
}

static const void *value_of(const t5_config *c, const key_row *row)
{
    return (const char *)c + row->offset;
}

static bool is_number(const key_row *row)
{
    return row->type == KEY_INT || row->type == KEY_BYTES;
}

void t5_config_init(t5_config *c)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        if (rows[i].type == KEY_TEXT) snprintf(value_at(c, &rows[i]), T5_CONFIG_TEXT_MAX, "%s", rows[i].text_value);
        if (is_number(&rows[i])) *(int64_t *)value_at(c, &rows[i]) = rows[i].value;
        if (rows[i].type == KEY_BOOL) *(bool *)value_at(c, &rows[i]) = rows[i].value != 0;
        snprintf(c->origins[i], sizeof c->origins[i], "default");
    }
}

t5_config_key t5_config_find(const char *name)
{
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        size_t n = 0;
        while (name[n] != '\0' && rows[i].name[n] == (name[n] == '-' ? '_' : name[n]))
            n++;
        if (name[n] == '\0' && rows[i].name[n] == '\0') return (t5_config_key)i;
    }
    return T5_KEYS_COUNT;
}

const char *t5_config_key_name(t5_config_key key)
{
    return rows[key].name;
}

bool t5_config_key_is_bool(t5_config_key key)
{
    return rows[key].type == KEY_BOOL;
}

#define NAME_MAX_BYTES 40

/* Levenshtein distance; names longer than NAME_MAX_BYTES count as far away. A dash equals an underscore. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n_a = strlen(a), n_b = strlen(b);
    size_t costs[NAME_MAX_BYTES + 1];
    if (n_a > NAME_MAX_BYTES || n_b > NAME_MAX_BYTES) return NAME_MAX_BYTES;
    for (size_t j = 0; j <= n_b; j++)
        costs[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = costs[0];
        costs[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            char x = a[i - 1] == '-' ? '_' : a[i - 1];
            size_t replaced = diagonal + (x != b[j - 1]);
            diagonal = costs[j];
            size_t shorter = (costs[j] < costs[j - 1] ? costs[j] : costs[j - 1]) + 1;
            costs[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return costs[n_b];
}

const char *t5_config_suggest(const char *name, char *out, size_t out_bytes)
{
    size_t best = 4; /* more changes than this are no typing error */
    out[0] = '\0';
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        size_t distance = edit_distance(name, rows[i].name);
        if (distance >= best || distance * 2 > strlen(rows[i].name)) continue;
        best = distance;
        snprintf(out, out_bytes, ", did you mean %s?", rows[i].name);
    }
    return out;
}

/* "a|b|c" has `value` among its parts; "" allows everything. */
static bool is_choice(const char *choices, const char *value)
{
    size_t n = strlen(value);
    if (choices[0] == '\0') return true;
    for (const char *part = choices;;) {
        size_t n_part = strcspn(part, "|");
        if (n_part == n && memcmp(part, value, n) == 0) return true;
        if (part[n_part] == '\0') return false;
        part += n_part + 1;
    }
}

static t5_status check_string(const key_row *row, const char *value, const char *origin, t5_error *err)
{
    if (strlen(value) >= T5_CONFIG_TEXT_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "%s (%s): longer than %d bytes", row->name, origin, T5_CONFIG_TEXT_MAX - 1);
    for (const char *p = value; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return T5_FAIL(err, T5_ERR_ARG, "%s (%s): has a control character", row->name, origin);
    if (!is_choice(row->choices, value))
        return T5_FAIL(err, T5_ERR_ARG, "%s (%s): '%.40s' is none of %s", row->name, origin, value, row->choices);
    return T5_OK;
}

static t5_status set_string(t5_config *c, const key_row *row, const char *value, const char *origin, t5_error *err)
{
    const t5_status status = check_string(row, value, origin, err);
    if (status == T5_OK) snprintf(value_at(c, row), T5_CONFIG_TEXT_MAX, "%s", value);
    return status;
}

/* An empty text is none: it leaves an empty list. */
static t5_status add_string(t5_config *c, const key_row *row, const char *value, const char *origin, t5_error *err)
{
    t5_config_list *list = value_at(c, row);
    const t5_status status = check_string(row, value, origin, err);
    if (status != T5_OK) return status;
    const bool is_more = strcmp(c->origins[row - rows], origin) == 0;
    if (!is_more) *list = (t5_config_list){0};
    snprintf(c->origins[row - rows], sizeof c->origins[0], "%s", origin);
    if (value[0] == '\0' || t5_config_list_add(list, value)) return T5_OK;
    return T5_FAIL(err, T5_ERR_ARG, "%s (%s): more than %d bytes together", row->name, origin, T5_CONFIG_LIST_BYTES);
}

#define RANGE_BYTES 80

/* "0 to 65535"; "32 to 4096, or 0" when the default is none of the range. */
static const char *describe_range(const key_row *row, char out[RANGE_BYTES])
{
    int n = snprintf(out, RANGE_BYTES, "%" PRId64 " to %" PRId64, row->min, row->max);
    bool is_within = row->value >= row->min && row->value <= row->max;
    if (!is_within) snprintf(out + n, RANGE_BYTES - (size_t)n, ", or %" PRId64, row->value);
    return out;
}

static t5_status set_int(t5_config *c, const key_row *row, int64_t value, const char *origin, t5_error *err)
{
    char range[RANGE_BYTES];
    bool is_within = value >= row->min && value <= row->max;
    if (!is_within && value != row->value)
        return T5_FAIL(err, T5_ERR_ARG, "%s (%s): %" PRId64 " is not within %s", row->name, origin, value,
                       describe_range(row, range));
    *(int64_t *)value_at(c, row) = value;
    return T5_OK;
}

static t5_status set_int_text(t5_config *c, const key_row *row, const char *value, const char *origin, t5_error *err)
{
    char *end = NULL, range[RANGE_BYTES];
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno == ERANGE)
        return T5_FAIL(err, T5_ERR_ARG, "%s (%s): '%.40s' is not a whole number within %s", row->name, origin, value,
                       describe_range(row, range));
    return set_int(c, row, number, origin, err);
}

/* "1048576", "1024K", "1M": units of 1024. */
static t5_status set_bytes_text(t5_config *c, const key_row *row, const char *value, const char *origin, t5_error *err)
{
    static const char units[] = "KMG";
    char *end = NULL;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    const int shift = unit != NULL ? 10 * (int)(unit - units + 1) : 0;
    const bool is_whole = end != value && errno == 0 && *(unit != NULL ? end + 1 : end) == '\0';
    if (!is_whole || number < 0 || number > (INT64_MAX >> shift))
        return T5_FAIL(err, T5_ERR_ARG, "%s (%s): '%.40s' is not a number of bytes, such as 1048576, 1024K or 1M",
                       row->name, origin, value);
    return set_int(c, row, (int64_t)number << shift, origin, err);
}

static t5_status set_bool_text(t5_config *c, const key_row *row, const char *value, const char *origin, t5_error *err)
{
    bool is_true = strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0;
    bool is_false = strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0;
    if (!is_true && !is_false)
        return T5_FAIL(err, T5_ERR_ARG, "%s (%s): '%.40s' is neither true nor false", row->name, origin, value);
    *(bool *)value_at(c, row) = is_true;
    return T5_OK;
}

t5_status t5_config_set_text(t5_config *c, t5_config_key key, const char *value, const char *origin, t5_error *err)
{
    const key_row *row = &rows[key];
    t5_status status = T5_OK;
    switch (row->type) {
    case KEY_TEXT:
        status = set_string(c, row, value, origin, err);
        break;
    case KEY_INT:
        status = set_int_text(c, row, value, origin, err);
        break;
    case KEY_BYTES:
        status = set_bytes_text(c, row, value, origin, err);
        break;
    case KEY_BOOL:
        status = set_bool_text(c, row, value, origin, err);
        break;
    case KEY_LIST:
        return add_string(c, row, value, origin, err);
    }
    if (status == T5_OK) snprintf(c->origins[key], sizeof c->origins[key], "%s", origin);
    return status;
}

t5_status t5_config_set_variable(t5_config *c, t5_config_key key, const char *value, const char *origin, t5_error *err)
{
    char part[T5_CONFIG_TEXT_MAX];
    t5_status status = T5_OK;
    if (rows[key].type != KEY_LIST) return t5_config_set_text(c, key, value, origin, err);
    for (const char *p = value; status == T5_OK; p++) {
        const size_t n = strcspn(p, ":");
        if (n >= sizeof part)
            return T5_FAIL(err, T5_ERR_ARG, "%s (%s): longer than %zu bytes", rows[key].name, origin, sizeof part - 1);
        memcpy(part, p, n);
        part[n] = '\0';
        status = add_string(c, &rows[key], part, origin, err);
        p += n;
        if (*p == '\0') break;
    }
    return status;
}

static t5_status set_list_json(t5_config *c, const key_row *row, const json_t *value, const char *origin, t5_error *err)
{
    t5_status status = T5_OK;
    if (json_is_string(value)) return add_string(c, row, json_string_value(value), origin, err);
    if (json_array_size(value) == 0) return add_string(c, row, "", origin, err);
    for (size_t i = 0; i < json_array_size(value) && status == T5_OK; i++)
        status = add_string(c, row, json_string_value(json_array_get(value, i)), origin, err);
    return status;
}

static bool is_strings(const json_t *value)
{
    bool is_fine = json_is_array(value);
    for (size_t i = 0; i < json_array_size(value) && is_fine; i++)
        is_fine = json_is_string(json_array_get(value, i));
    return is_fine;
}

t5_status t5_config_set_json(t5_config *c, t5_config_key key, const json_t *value, const char *origin, t5_error *err)
{
    static const char *const wanted[] = {"a string", "a whole number", "a whole number or a string such as \"512M\"",
                                         "true or false", "a string or an array of strings"};
    const key_row *row = &rows[key];
    bool fits = (row->type == KEY_TEXT && json_is_string(value)) || (is_number(row) && json_is_integer(value)) ||
                (row->type == KEY_BYTES && json_is_string(value)) ||
                (row->type == KEY_BOOL && json_is_boolean(value)) ||
                (row->type == KEY_LIST && (json_is_string(value) || is_strings(value)));
    if (!fits) return T5_FAIL(err, T5_ERR_ARG, "%s (%s): must be %s", row->name, origin, wanted[row->type]);

    if (row->type == KEY_LIST) return set_list_json(c, row, value, origin, err);
    t5_status status = T5_OK;
    if (row->type == KEY_TEXT) status = set_string(c, row, json_string_value(value), origin, err);
    if (is_number(row) && json_is_integer(value)) status = set_int(c, row, json_integer_value(value), origin, err);
    if (row->type == KEY_BYTES && json_is_string(value))
        status = set_bytes_text(c, row, json_string_value(value), origin, err);
    if (row->type == KEY_BOOL) *(bool *)value_at(c, row) = json_is_true(value);
    if (status == T5_OK) snprintf(c->origins[key], sizeof c->origins[key], "%s", origin);
    return status;
}

static void print_help_row(const key_row *row, FILE *file)
{
    char flag[NAME_MAX_BYTES + 16];
    static const char *const kinds[] = {"TEXT", "N", "BYTES", "", "TEXT"};
    snprintf(flag, sizeof flag, "--%s %s", row->name, kinds[row->type]);
    for (char *p = flag; *p != '\0' && *p != ' '; p++)
        if (*p == '_') *p = '-';
    fprintf(file, "  %-26s %s", flag, row->help);
    if (row->type == KEY_TEXT && row->choices[0] != '\0')
        fprintf(file, " (%s, default %s)\n", row->choices, row->text_value);
    if (row->type == KEY_TEXT && row->choices[0] == '\0') fprintf(file, " (default \"%s\")\n", row->text_value);
    if (is_number(row))
        fprintf(file, " (%" PRId64 " to %" PRId64 ", default %" PRId64 ")\n", row->min, row->max, row->value);
    if (row->type == KEY_BOOL) fprintf(file, " (default %s)\n", row->value != 0 ? "true" : "false");
    if (row->type == KEY_LIST) fprintf(file, "\n");
}

void t5_config_print_help(FILE *file)
{
    fprintf(
        file,
        "t5serve: translates over HTTP with a T5 model.\n\n"
        "usage: t5serve [--config FILE] [--KEY VALUE] ...\n"
        "       t5serve keys add|list|remove ...      API keys; see t5serve keys --help\n\n"
        "  --config FILE              settings as a JSON object of the keys below (default: T5_CONFIG)\n"
        "  --print-config             print the settings, and where each comes from, and exit\n"
        "  --health                   ask the server that runs with these settings whether it is well, and exit\n"
        "  --version                  print the version and exit\n"
        "  --help                     print this and exit\n\n"
        "Keys, as flags; in the file with underscores (\"queue_depth\": 64), in the environment as T5_QUEUE_DEPTH.\n"
        "Flags win over the environment, the environment over the file. LibreTranslate's variables (LT_PORT,\n"
        "LT_LOAD_ONLY, LT_CHAR_LIMIT, ...) count where no T5_ one is set; docs/operations.md lists them. What is on\n"
        "is turned off with --access-log=false.\n\n");
    for (size_t i = 0; i < T5_COUNT(rows); i++)
        print_help_row(&rows[i], file);
}

/* One text stays a text, as the file had it. NULL when one is not valid UTF-8. */
static json_t *list_to_json(const t5_config_list *list)
{
    if (list->n_texts <= 1) return json_string(list->bytes);
    json_t *texts = json_array();
    for (const char *text = NULL; (text = t5_config_list_next(list, text)) != NULL;)
        json_array_append_new(texts, json_string(text));
    if (json_array_size(texts) == (size_t)list->n_texts) return texts;
    json_decref(texts);
    return NULL;
}

t5_status t5_config_print(const t5_config *c, FILE *file, t5_error *err)
{
    t5_status status = T5_OK;
    json_t *root = json_object(), *origins = json_object();
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        const key_row *row = &rows[i];
        json_t *value = NULL;
        if (row->type == KEY_TEXT) value = json_string(value_of(c, row));
        if (is_number(row)) value = json_integer(*(const int64_t *)value_of(c, row));
        if (row->type == KEY_BOOL) value = json_boolean(*(const bool *)value_of(c, row));
        if (row->type == KEY_LIST) value = list_to_json(value_of(c, row));
        if (json_object_set_new(root, row->name, value) != 0 ||
            json_object_set_new(origins, row->name, json_string(c->origins[i])) != 0) {
            status = T5_FAIL(err, T5_ERR_ARG, "%s: not valid UTF-8, or out of memory", row->name);
            goto out;
        }
    }
    if (json_object_set(root, "_origin", origins) != 0 || json_dumpf(root, file, JSON_INDENT(2)) != 0)
        status = T5_FAIL(err, T5_ERR_IO, "the settings could not be printed");
    fputc('\n', file);
out:
    json_decref(origins);
    json_decref(root);
    return status;
}
