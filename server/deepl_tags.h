/* server/deepl_tags.h: DeepL's parameters for texts with markup: tag_handling and the lists of tags. Any thread. */
#pragma once
#include "text/markup.h"
#include <jansson.h>

#define T5_DEEPL_TAGS_MAX 256 /* names in one list */

/* Owns what `options` points to; must not move. */
typedef struct {
    bool is_marked; /* tag_handling was given: texts have markup, and `options` says which */
    t5_markup_options options;
    const char *version; /* tag_handling_version, to be told with the result; a static text */
    char *names[3];      /* of each list, one after the other */
    const char **lists[3];
} t5_deepl_tags;

/* T5_ERR_ARG "Value for 'ignore_tags' not supported." names what is wrong. Release with t5_deepl_tags_deinit(), also
 * after an error. */
t5_status t5_deepl_tags_read(const json_t *fields, t5_deepl_tags *out, t5_error *err);
void t5_deepl_tags_deinit(t5_deepl_tags *tags); /* accepts a zeroed one */
