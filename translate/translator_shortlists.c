/* translate/translator_shortlists.c: the lists of an open translator: reads those that the folder has for its target
 * languages and gives them to the models. */
#include "translate/translator_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "translate/shortlist.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The same number on each device: each gets the same lists in the same order. */
static t5_status add_list(t5_translator *t, const char *path, const char *target, int32_t *out_number, t5_error *err)
{
    int32_t *ids = NULL, n_ids = 0;
    const t5_shortlist_vocab vocab = t5_shortlist_vocab_of(t->tokenizer, t->hparams.vocab_size, t->hparams.eos_id);
    t5_status status = t5_shortlist_read(path, &vocab, &ids, &n_ids, err);
    for (int32_t i = 0; status == T5_OK && i < t->n_devices; i++)
        status = t5_model_add_shortlist(t->models[i], ids, n_ids, out_number, err);
    if (status == T5_OK) t5_log(T5_LOG_INFO, "shortlist target=%s pieces=%d of=%d", target, n_ids, t->vocab_live);
    free(ids);
    return status;
}

static t5_status add_target(t5_translator *t, const char *dir, const char *target, t5_error *err)
{
    char path[PATH_MAX];
    int32_t number = 0;
    t5_status status = t5_shortlist_path(dir, target, path, sizeof path, err);
    if (status != T5_OK || !t5_file_exists(path)) return status;
    status = add_list(t, path, target, &number, err);
    for (int32_t i = 0; i < t->profile.n_pairs; i++)
        if (strcmp(t->profile.pairs[i].target, target) == 0) t->shortlists[i] = number;
    return status;
}

static bool is_first(const t5_profile *p, int32_t i_pair)
{
    for (int32_t i = 0; i < i_pair; i++)
        if (strcmp(p->pairs[i].target, p->pairs[i_pair].target) == 0) return false;
    return true;
}

t5_status t5_translator_open_shortlists(t5_translator *t, const char *dir, t5_error *err)
{
    const t5_profile *p = &t->profile;
    char name[2 * sizeof p->name];
    for (int32_t i = 0; i < t->n_devices; i++) {
        if (t->backends[i]->ops->has_shortlists) continue;
        t5_log(T5_LOG_WARN,
               "shortlist device=\"%s\" text=\"only the CPU has shortlists: the whole vocabulary is used\"",
               t->backends[i]->device);
        return T5_OK;
    }
    t->shortlists = calloc((size_t)p->n_pairs + 1, sizeof *t->shortlists);
    if (t->shortlists == NULL) return T5_FAIL(err, T5_ERR_NOMEM, "%d language pairs", p->n_pairs);
    for (int32_t i = 0; i < p->n_pairs; i++) {
        const t5_status status = is_first(p, i) ? add_target(t, dir, p->pairs[i].target, err) : T5_OK;
        if (status != T5_OK) return status;
    }
    if (t->models[0]->n_shortlists == 0)
        t5_log(T5_LOG_WARN, "shortlist model=%s text=\"%s\"", t5_log_quote(name, sizeof name, p->name),
               "no target language has a shortlist.CODE.json, see t5 shortlist: the whole vocabulary is used");
    return T5_OK;
}

int32_t t5_translator_shortlist(const t5_translator *t, const t5_pair *pair)
{
    return t->shortlists != NULL ? t->shortlists[pair - t->profile.pairs] : 0;
}
