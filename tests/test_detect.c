/* tests/test_detect.c: the language of a text among the served ones. */
#include "base/error.h"
#include "text/detect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TATOEBA T5_SOURCE_DIR "/models/t5-tatoeba/data/"

static const char *const many[] = {"en", "ar", "bg", "cs", "da", "de", "el", "es",    "fa",      "fi",      "fr", "he",
                                   "hi", "hu", "id", "it", "ja", "ko", "lt", "nb",    "nl",      "pl",      "pt", "ro",
                                   "ru", "sk", "sr", "sv", "th", "tr", "uk", "pt-BR", "zh-Hans", "zh-Hant", "vi"};

static t5_detected best_of_many(const char *text)
{
    t5_detected found[T5_DETECTED_MAX];
    int32_t n = t5_detect(text, strlen(text), many, T5_COUNT(many), found);
    assert_in_range(n, 1, T5_DETECTED_MAX);
    for (int32_t i = 0; i < n; i++) {
        assert_true(found[i].confidence >= 0 && found[i].confidence <= 100);
        if (i > 0) assert_true(found[i].confidence <= found[i - 1].confidence);
    }
    return found[0];
}

static void expect(const char *text, const char *code, double confidence_min)
{
    t5_detected found = best_of_many(text);
    if (strcmp(found.code, code) != 0 || found.confidence < confidence_min)
        fail_msg("\"%s\" is %s with %.1f, expected %s with %.1f", text, found.code, found.confidence, code,
                 confidence_min);
}

/* Claim: plain sentences are told with confidence. Method: one of each language, among 35. */
static void sentences_are_told(void **state)
{
    (void)state;
    expect("The weather is nice today, so we are going to the park.", "en", 80);
    expect("Das Wetter ist heute schön, also gehen wir in den Park.", "de", 80);
    expect("Il fait beau aujourd'hui, alors nous allons au parc.", "fr", 80);
    expect("Hoy hace buen tiempo, así que vamos al parque.", "es", 80);
    expect("Oggi il tempo è bello, quindi andiamo al parco.", "it", 80);
    expect("O tempo está bom hoje, então vamos ao parque.", "pt", 60);
    expect("Het weer is vandaag mooi, dus we gaan naar het park.", "nl", 80);
    expect("Vädret är fint idag, så vi går till parken.", "sv", 80);
    expect("Dziś jest ładna pogoda, więc idziemy do parku.", "pl", 80);
    expect("Dnes je hezké počasí, takže jdeme do parku.", "cs", 60);
    expect("Bugün hava güzel, bu yüzden parka gidiyoruz.", "tr", 80);
    expect("Сегодня хорошая погода, поэтому мы идём в парк.", "ru", 60);
    expect("Сьогодні гарна погода, тому ми йдемо до парку.", "uk", 60);
    expect("今日は天気がいいので、公園に行きます。", "ja", 90);
    expect("오늘 날씨가 좋아서 공원에 가요.", "ko", 90);
    expect("วันนี้อากาศดี เราจึงไปสวนสาธารณะ", "th", 90);
    expect("Σήμερα ο καιρός είναι καλός.", "el", 90);
    expect("מזג האוויר יפה היום.", "he", 60);
    expect("الطقس جميل اليوم، لذلك نذهب إلى الحديقة.", "ar", 60);
    expect("आज मौसम अच्छा है, इसलिए हम पार्क जा रहे हैं।", "hi", 60);
    expect("今天天气很好，我们去公园。", "zh-Hans", 60);
    expect("今天天氣很好，我們去公園。", "zh-Hant", 60);
}

/* Claim: the texts on which CLD2 or langdetect fail are told. Method: those of LibreTranslate's bug reports. */
static void short_texts_are_told(void **state)
{
    (void)state;
    expect("Hello", "en", 40);
    expect("Guten Tag", "de", 50);
    expect("La tua password non è corretta", "it", 50);
    expect("你好世界", "zh-Hans", 40);
    expect("Hi", "en", 25);
    expect("Bonjour", "fr", 40);
    expect("Thank you!", "en", 50);
    expect("Je ne sais pas", "fr", 60);
    expect("¿Qué anda mal?", "es", 25);
    expect("¡Páralo!", "es", 10);
    expect("Voy a trabajar.", "es", 30);
    assert_true(best_of_many("Hallo").confidence < 80); /* German, Dutch or Afrikaans */
}

/* Claim: Japanese with foreign names is Japanese, and a Japanese word in another text is not. Method: one of each. */
static void mixed_writing_is_told(void **state)
{
    (void)state;
    expect("iPhone 15 を買いました", "ja", 90);
    expect("PowerPoint の使い方", "ja", 90);
    expect("The Japanese word すし means sushi in English.", "en", 60);
    expect("The capital of China is 北京 and not Shanghai.", "en", 60);
}

/* Claim: only served languages come back; what says nothing is en, else the first, with 0. Method: such texts. */
static void only_served_come_back(void **state)
{
    static const char *const silent[] = {"",          "   ",      "🙂👍",
                                         "12345 + 6", "\xFF\xFE", "https://example.org/hello/the/world"};
    static const char *const de_en[] = {"de", "en"}, *const de_fr[] = {"de", "fr"};
    t5_detected found[T5_DETECTED_MAX];

    (void)state;
    for (size_t i = 0; i < T5_COUNT(silent); i++) {
        assert_int_equal(t5_detect(silent[i], strlen(silent[i]), de_en, 2, found), 1);
        assert_string_equal(found[0].code, "en");
        assert_true(found[0].confidence == 0);
        assert_int_equal(t5_detect(silent[i], strlen(silent[i]), de_fr, 2, found), 1);
        assert_string_equal(found[0].code, "de");
    }
    static const char spanish[] = "Hoy hace buen tiempo, así que vamos al parque.";
    assert_true(t5_detect(spanish, sizeof spanish - 1, de_en, 2, found) <= 2);
    assert_true(found[0].confidence < 50);
    static const char russian[] = "Сегодня хорошая погода";
    t5_detect(russian, sizeof russian - 1, de_en, 2, found);
    assert_true(found[0].confidence == 0);
    t5_detect("今天天氣很好", 18, (const char *const[]){"en", "zh-Hans"}, 2, found);
    assert_string_equal(found[0].code, "zh-Hans");
    t5_detect("Obrigado pela ajuda", 19, (const char *const[]){"en", "pt-BR"}, 2, found);
    assert_string_equal(found[0].code, "pt-BR");
}

/* Claim: what is no language is passed over, and nothing else. Method: placeholders that touch the words of scripts
 * without spaces, or have words of their own, and white space that would fill all that is read. */
static void placeholders_are_passed_over(void **state)
{
    char text[4096];
    (void)state;
    expect("{name}さん、こんにちは。", "ja", 90);
    expect("@user你好世界", "zh-Hans", 40);
    expect("<b>今日は</b>https://example.org/a。", "ja", 90);
    expect("{n, plural, one {# file is here} other {# files are here}} sind heute im Haus", "de", 80);
    memset(text, '\n', sizeof text);
    memcpy(text + sizeof text - 32, "Das Wetter ist heute schön", 28);
    expect(text, "de", 80);
}

/* Claim: any bytes are safe and long texts are cheap. Method: noise, NUL, a cut character, and 8 MB of letters. */
static void odd_texts_are_safe(void **state)
{
    enum { LONG_BYTES = 8 << 20 };
    char *text = malloc(LONG_BYTES);
    t5_detected found[T5_DETECTED_MAX];
    uint32_t seed = 7;

    (void)state;
    assert_non_null(text);
    memset(text, 'a', LONG_BYTES);
    assert_true(t5_detect(text, LONG_BYTES, many, T5_COUNT(many), found) >= 1);
    for (int i = 0; i < 2000; i++) {
        size_t n_bytes = (size_t)i % 97;
        for (size_t k = 0; k < n_bytes; k++) {
            seed = seed * 1664525 + 1013904223;
            text[k] = (char)(seed >> 24);
        }
        assert_true(t5_detect(text, n_bytes, many, T5_COUNT(many), found) >= 1);
    }
    free(text);
}

/* Share of a file's column that is found to be `code` among `served`. */
static double accuracy(const char *file, int column, const char *code, const char *const *served, int32_t n_served)
{
    char path[512], line[1024];
    size_t n_lines = 0, n_right = 0;
    snprintf(path, sizeof path, TATOEBA "%s", file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        t5_detected found[T5_DETECTED_MAX];
        char *text = strtok(line, "\t\n");
        for (int i = 0; i < column && text != NULL; i++)
            text = strtok(NULL, "\t\n");
        if (text == NULL) continue;
        t5_detect(text, strlen(text), served, n_served, found);
        n_lines++;
        n_right += strcmp(found[0].code, code) == 0;
    }
    fclose(f);
    assert_true(n_lines > 1000);
    printf("%s column %d: %s among %d: %.2f %% of %zu\n", file, column, code, (int)n_served,
           100.0 * (double)n_right / (double)n_lines, n_lines);
    return (double)n_right / (double)n_lines;
}

/* Claim: short everyday sentences are told among the bundled model's languages, and still among 35. Method: the held
 * back test sets of the model. */
static void tatoeba_is_told(void **state)
{
    static const char *const bundled[] = {"en", "de", "fr", "es"};
    (void)state;
    assert_true(accuracy("test.en-de.tsv", 0, "en", bundled, 4) > 0.99);
    assert_true(accuracy("test.en-de.tsv", 1, "de", bundled, 4) > 0.99);
    assert_true(accuracy("test.en-fr.tsv", 1, "fr", bundled, 4) > 0.99);
    assert_true(accuracy("test.en-es.tsv", 1, "es", bundled, 4) > 0.94);
    assert_true(accuracy("test.en-de.tsv", 0, "en", many, T5_COUNT(many)) > 0.95);
    assert_true(accuracy("test.en-de.tsv", 1, "de", many, T5_COUNT(many)) > 0.95);
    assert_true(accuracy("test.en-fr.tsv", 1, "fr", many, T5_COUNT(many)) > 0.95);
    assert_true(accuracy("test.en-es.tsv", 1, "es", many, T5_COUNT(many)) > 0.80);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentences_are_told),           cmocka_unit_test(short_texts_are_told),
        cmocka_unit_test(mixed_writing_is_told),        cmocka_unit_test(only_served_come_back),
        cmocka_unit_test(odd_texts_are_safe),           cmocka_unit_test(tatoeba_is_told),
        cmocka_unit_test(placeholders_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
