/* translate/profile_pairs.h: the pairs of a profile while it is read. Not for other folders. */
#pragma once
#include "translate/profile.h"

/* Why bounded: pairs are searched one by one. A model that takes any source needs one pair per target only. */
#define T5_PAIRS_MAX 4096

/* Appends a pair; codes are public. `where` is the place in the file for errors: what is too long, or the pair exists
 * already, or there are too many. */
t5_status t5_profile_add_pair(t5_profile *p, const char *source, const char *target, const char *prompt,
                              const char *where, t5_error *err);

/* Reads t5serve.json, when `path` exists: *out_found. */
t5_status t5_profile_read_own(const char *path, t5_profile *p, bool *out_found, t5_error *err);
/* Reads task_specific_params of config.json, when it has translation tasks. */
t5_status t5_profile_read_tasks(const char *path, t5_profile *p, t5_error *err);
/* Makes a pair of each <2xx> piece whose language is known. */
t5_status t5_profile_read_tags(const t5_tokenizer *tokenizer, t5_profile *p, t5_error *err);
