/* text/detect.c: see detect.h. Each served language that is written in the text's script gets a score:
 *
 *   score = cld2_weight * CLD2's share + share of frequent words + a little for the script's main language
 *
 * CLD2 alone is wrong on short texts (it calls "La tua password non è corretta" English, and is sure of it), so its
 * weight grows with the text from 0.35 to 1, and falls when the text has no frequent word of the language. Confidence
 * is the part that the score's square has of all squares, languages that are not served included, held down where the
 * evidence is one or two words. Scripts with one language, kana and the characters that only one of the Chinese
 * writings has decide without CLD2. */
#include "text/detect.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "text/cld2_wrapper.h"
#include "text/detect_script.h"
#include "text/detect_words.h"
#include "text/langcodes.h"
#include "text/placeholders.h"

#include <math.h>
#include <string.h>

#define READ_BYTES_MAX 2048
#define LETTERS_FULL_WEIGHT 100.0 /* CLD2 is trusted fully from here on */
#define UNKNOWN_SCORE 0.05        /* what speaks for none of the languages */
#define SCORE_FULL 0.4            /* a best score below is weak evidence */

typedef struct {
    const char *const *served;
    int32_t n_served;
    t5_writing writing;
    t5_words words;
    t5_cld2_guess guesses[T5_CLD2_MAX];
    int n_guesses;
    double cld2_weight;
    double total;     /* of the squares of all scores: squares, since languages share words */
    t5_detected *out; /* confidence holds the score until the end */
    int32_t n_out;
} detection;

/* Copies the first words of the text without placeholders and broken bytes, with a space for what is no word. */
static size_t clean(const char *text, size_t n_bytes, char out[READ_BYTES_MAX])
{
    size_t n_out = 0, length;

    for (size_t pos = 0; pos < n_bytes; pos += length) {
        uint32_t code;
        const size_t n_held = t5_placeholder_at(text, n_bytes, pos);
        length = n_held > 0 ? n_held : t5_utf8_next(text + pos, n_bytes - pos, &code);
        const bool is_word = n_held == 0 && (unsigned char)text[pos] > ' ';
        const size_t n_kept = is_word ? length : 1;
        if (n_out + n_kept > READ_BYTES_MAX) break;
        if (is_word && t5_utf8_is_valid(text + pos, length)) {
            memcpy(out + n_out, text + pos, length);
            n_out += length;
        } else if (!is_word && n_out > 0 && out[n_out - 1] != ' ') {
            out[n_out++] = ' ';
        }
    }
    return n_out;
}

/* Keeps the best three, first come first among equals. */
static void add_candidate(detection *d, const char *code, double score)
{
    int32_t pos = d->n_out;

    if (score <= 0) return;
    d->total += score * score;
    while (pos > 0 && d->out[pos - 1].confidence < score)
        pos--;
    if (pos == T5_DETECTED_MAX) return;
    if (d->n_out < T5_DETECTED_MAX) d->n_out++;
    memmove(&d->out[pos + 1], &d->out[pos], (size_t)(d->n_out - 1 - pos) * sizeof d->out[0]);
    d->out[pos] = (t5_detected){code, score};
}

static bool is_served(const detection *d, const char *code)
{
    for (int32_t i = 0; i < d->n_served; i++)
        if (strcmp(d->served[i], code) == 0) return true;
    return false;
}

/* Score of Chinese and Japanese by their characters. Text of Han characters alone may also be Japanese. */
static double score_han(const detection *d, const char *code)
{
    const t5_writing *w = &d->writing;
    bool has_kana = w->n_kana * 10 >= w->n_kana + w->n_han;
    double simple = (double)w->n_simplified + 1.2, traditional = (double)w->n_traditional + 0.8;
    double simple_share = simple / (simple + traditional);

    if (strcmp(code, "ja") == 0) return has_kana ? 1 : 0.2 / (1 + simple - 1.2);
    if (has_kana) return 0;
    if (strcmp(code, "zh-Hans") == 0) return is_served(d, "zh-Hant") ? simple_share : 1;
    if (strcmp(code, "zh-Hant") == 0) return is_served(d, "zh-Hans") ? 1 - simple_share : 1;
    return 0.1;
}

/* How far CLD2 is believed about a language of whose frequent words the text has this share: without any it is wrong as
 * often as right, and of short texts that it knows nothing of it says English. */
static double belief(const detection *d, const char *code, double words_share)
{
    if (d->words.n_words < 3 && words_share == 0 && strcmp(code, "en") == 0) return 0.2;
    if (d->words.n_words < 3) return 1;
    double believed = t5_words_knows(code) ? 0.4 + 2 * words_share : 0.7;
    return believed < 1 ? believed : 1;
}

/* CLD2 takes much Indonesian for Malay: what it says of one counts for both, and their words decide; of equals the one
 * that ten times as many people write. */
static bool is_malay(const char *code)
{
    return strcmp(code, "id") == 0 || strcmp(code, "ms") == 0;
}

static double score_words(const detection *d, const char *code)
{
    const char *main_code = t5_script_main(d->writing.script);
    double words_share = t5_words_share(&d->words, code), score = words_share;

    for (int i = 0; i < d->n_guesses; i++) {
        const char *guess = t5_langcode_match(d->guesses[i].code, d->served, d->n_served);
        const bool is_meant = guess != NULL && (strcmp(guess, code) == 0 || (is_malay(guess) && is_malay(code)));
        if (!is_meant) continue;
        score += belief(d, code, words_share) * d->cld2_weight * d->guesses[i].share;
    }
    /* Croatian is written in Latin letters alone, Serbian in both: where both are served these letters are the
     * former's. */
    const bool is_second = strcmp(code, "sr") == 0 && d->writing.script == USCRIPT_LATIN && is_served(d, "hr");
    if (is_second) score /= 2;
    if (strcmp(code, "ms") == 0) score *= 0.9;
    if (main_code != NULL) score += strcmp(main_code, code) == 0 ? 0.15 : 0.05;
    return score;
}

/* What CLD2 says for languages that are not served counts against those that are. */
static double score_not_served(const detection *d)
{
    double score = 0;
    for (int i = 0; i < d->n_guesses; i++) {
        char code[T5_LANGCODE_BYTES];
        if (t5_langcode_match(d->guesses[i].code, d->served, d->n_served) != NULL) continue;
        t5_langcode_normalize(d->guesses[i].code, code);
        double words_share = t5_words_share(&d->words, code);
        score += words_share + belief(d, code, words_share) * d->cld2_weight * d->guesses[i].share;
    }
    return score;
}

static void score_all(detection *d)
{
    UScriptCode script = d->writing.script;

    double other = UNKNOWN_SCORE;
    if (script != USCRIPT_HAN && !t5_script_is_sole(script)) other += score_not_served(d);
    d->total = other * other;
    for (int32_t i = 0; i < d->n_served; i++) {
        const char *code = d->served[i];
        if (!t5_script_has(script, code)) continue;
        double score = t5_script_is_sole(script) ? 1
                       : script == USCRIPT_HAN   ? score_han(d, code)
                                                 : score_words(d, code);
        add_candidate(d, code, score);
    }
}

static void scores_to_confidence(detection *d)
{
    bool is_script_certain = t5_script_is_sole(d->writing.script) || d->writing.script == USCRIPT_HAN;
    double best = d->out[0].confidence;
    double certainty = best < SCORE_FULL ? best / SCORE_FULL : 1;

    if (!is_script_certain && d->words.n_words == 1) certainty *= 0.8;
    if (!is_script_certain && d->words.n_words == 2) certainty *= 0.9;
    for (int32_t i = 0; i < d->n_out; i++) {
        double percent = 100 * certainty * d->out[i].confidence * d->out[i].confidence / d->total;
        d->out[i].confidence = round(10 * percent) / 10; /* more digits would promise what we do not know */
    }
}

int32_t t5_detect(const char *text, size_t n_bytes, const char *const *served, int32_t n_served,
                  t5_detected out[T5_DETECTED_MAX])
{
    char cleaned[READ_BYTES_MAX];
    detection d = {.served = served, .n_served = n_served, .out = out};

    T5_ASSERT(n_served >= 1);
    size_t cleaned_bytes = clean(text, n_bytes, cleaned);
    d.writing = t5_writing_of(cleaned, cleaned_bytes);
    if (d.writing.n_letters > 0) {
        double length = (double)d.writing.n_letters / LETTERS_FULL_WEIGHT;
        d.cld2_weight = 0.35 + 0.65 * (length < 1 ? length : 1);
        t5_words_read(cleaned, cleaned_bytes, &d.words);
        d.n_guesses = t5_cld2_detect(cleaned, cleaned_bytes, d.guesses);
        score_all(&d);
    }
    if (d.n_out > 0) {
        scores_to_confidence(&d);
        return d.n_out;
    }
    out[0] = (t5_detected){served[0], 0};
    for (int32_t i = 0; i < n_served; i++)
        if (strcmp(served[i], "en") == 0) out[0].code = served[i];
    return 1;
}
