// text/cld2_wrapper.cc: see cld2_wrapper.h. "Best effort" makes CLD2 answer for short texts too; what that is worth is
// for detect.c to weigh.
#include "text/cld2_wrapper.h"

#include <cstdio> // compact_lang_det.h needs it
#include <new>

#include <cld2/public/compact_lang_det.h>
#include <cld2/public/encodings.h>

int t5_cld2_detect(const char *text, size_t n_bytes, t5_cld2_guess out[T5_CLD2_MAX])
{
    const CLD2::CLDHints hints = {nullptr, nullptr, CLD2::UNKNOWN_ENCODING, CLD2::UNKNOWN_LANGUAGE};
    CLD2::Language languages[T5_CLD2_MAX] = {CLD2::UNKNOWN_LANGUAGE, CLD2::UNKNOWN_LANGUAGE, CLD2::UNKNOWN_LANGUAGE};
    int percents[T5_CLD2_MAX] = {};
    double scores[T5_CLD2_MAX] = {};
    int text_bytes = 0, valid_bytes = 0, n_guesses = 0;
    bool is_reliable = false;

    try {
        CLD2::ExtDetectLanguageSummaryCheckUTF8(text, static_cast<int>(n_bytes), true, &hints, CLD2::kCLDFlagBestEffort,
                                                languages, percents, scores, nullptr, &text_bytes, &is_reliable,
                                                &valid_bytes);
    } catch (const std::bad_alloc &) {
        return 0;
    }
    for (int i = 0; i < T5_CLD2_MAX; i++)
        if (languages[i] != CLD2::UNKNOWN_LANGUAGE && percents[i] > 0)
            out[n_guesses++] = {CLD2::LanguageCode(languages[i]), percents[i] / 100.0};
    return n_guesses;
}
