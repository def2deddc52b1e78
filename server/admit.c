/* server/admit.c: see admit.h. */
#include "server/admit.h"
#include "base/clock.h"
#include "config/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HTTP_TOO_MANY 429
#define FORWARDED_BYTES 2048 /* of X-Forwarded-For, from its end: more proxies than anybody has */

/* LibreTranslate's statuses: its clients take a 403 for a used-up quota, so who has no key gets 400. */
const t5_refusals t5_refusals_libretranslate = {
    .no_key_status = 400,
    .no_key_text = "Please contact the server operator to get an API key",
    .wrong_key_status = 403,
    .wrong_key_text = "Invalid API key",
};

const t5_refusals t5_refusals_deepl = {
    .no_key_status = 403,
    .no_key_text = "Authorization failed: no key",
    .wrong_key_status = 403,
    .wrong_key_text = "Authorization failed: unknown key",
    .too_often_text = "Too many requests",
};

const t5_refusals t5_refusals_openai = {
    .no_key_status = 401,
    .no_key_text = "You didn't provide an API key.",
    .wrong_key_status = 401,
    .wrong_key_text = "Incorrect API key provided.",
    .too_often_text = "Rate limit reached for requests.",
};

/* The key in `Authorization: SCHEME key`, or NULL. */
static const char *key_of_header(const t5_exchange *x)
{
    static const char *const schemes[] = {"Bearer ", "DeepL-Auth-Key "};
    const char *value = t5_exchange_header(x, "Authorization");
    for (size_t i = 0; i < T5_COUNT(schemes) && value != NULL; i++) {
        const size_t n = strlen(schemes[i]);
        if (strncasecmp(value, schemes[i], n) == 0) return value + n + strspn(value + n, " ");
    }
    return NULL;
}

static void refuse_too_often(t5_exchange *x, const t5_refusals *refusals, const t5_access_verdict *verdict)
{
    char text[64];
    snprintf(text, sizeof text, "Slowdown: %" PRId64 " per 1 %s", verdict->req_limit, verdict->period);
    t5_exchange_set_retry_after(x, verdict->wait_s);
    t5_exchange_fail_status(x, HTTP_TOO_MANY, refusals->too_often_text != NULL ? refusals->too_often_text : text);
}

static void refuse_without_key(t5_exchange *x, const t5_server *s, const t5_refusals *refusals)
{
    char text[T5_CONFIG_TEXT_MAX + 32];
    const bool has_link = s->key_link[0] != '\0' && refusals == &t5_refusals_libretranslate;
    snprintf(text, sizeof text, "Visit %s to get an API key", s->key_link);
    t5_exchange_fail_status(x, refusals->no_key_status, has_link ? text : refusals->no_key_text);
}

bool t5_server_admits(t5_exchange *x, const t5_server *s, const t5_refusals *refusals, const char *key, int64_t n_texts,
                      t5_params_rules *out_rules)
{
    t5_access_verdict verdict;
    char forwarded[FORWARDED_BYTES];
    const char *given = key != NULL && key[0] != '\0' ? key : key_of_header(x);
    t5_access_check(s->access, given, t5_exchange_peer(x),
                    t5_exchange_list(x, "X-Forwarded-For", forwarded, sizeof forwarded), n_texts, t5_clock_ms(),
                    &verdict);
    if (verdict.result == T5_ACCESS_NO_KEY) refuse_without_key(x, s, refusals);
    if (verdict.result == T5_ACCESS_WRONG_KEY)
        t5_exchange_fail_status(x, refusals->wrong_key_status, refusals->wrong_key_text);
    if (verdict.result == T5_ACCESS_TOO_OFTEN) refuse_too_often(x, refusals, &verdict);
    *out_rules = (t5_params_rules){.languages = s->rules.languages,
                                   .chars_max = verdict.char_limit >= 0 ? verdict.char_limit : s->rules.chars_max,
                                   .texts_max = s->rules.texts_max,
                                   .alternatives_max = s->rules.alternatives_max};
    return verdict.result == T5_ACCESS_GRANTED;
}
