/* text/detect_script.c: see detect_script.h. Languages that no row lists are written in Latin letters. */
#include "text/detect_script.h"
#include "base/utf8.h"
#include "text/word_list.h"

#include <string.h>
#include <unicode/uchar.h>

#define SCRIPTS_MAX 256
#define JAPANESE_SHARE 5 /* one letter of so many: a Latin name has more letters than the Japanese words around it */

static const struct {
    UScriptCode script;
    const char *languages;
} scripts[] = {
    {USCRIPT_HANGUL, " ko "},
    {USCRIPT_THAI, " th "},
    {USCRIPT_LAO, " lo "},
    {USCRIPT_KHMER, " km "},
    {USCRIPT_GREEK, " el "},
    {USCRIPT_ARMENIAN, " hy "},
    {USCRIPT_GEORGIAN, " ka "},
    {USCRIPT_TAMIL, " ta "},
    {USCRIPT_TELUGU, " te "},
    {USCRIPT_KANNADA, " kn "},
    {USCRIPT_MALAYALAM, " ml "},
    {USCRIPT_GUJARATI, " gu "},
    {USCRIPT_GURMUKHI, " pa "},
    {USCRIPT_ORIYA, " or "},
    {USCRIPT_SINHALA, " si "},
    {USCRIPT_THAANA, " dv "},
    {USCRIPT_HAN, " zh-Hans zh-Hant ja yue "},
    {USCRIPT_HEBREW, " he yi "},
    {USCRIPT_MYANMAR, " my shn mnw ksw "},
    {USCRIPT_TIBETAN, " bo dz "},
    {USCRIPT_ETHIOPIC, " am ti "},
    {USCRIPT_BENGALI, " bn as mni "},
    {USCRIPT_DEVANAGARI, " hi mr ne sa bho mai gom kok new doi mag hne ks-Deva awa "},
    {USCRIPT_ARABIC, " ar fa ur ps ckb sd ug ks lrc pnb azb az-Arab ku-Arab ms-Arab pa-Arab "},
    {USCRIPT_CYRILLIC,
     " ru uk be bg sr mk kk ky mn tg tt ba cv os ce sah udm kv av ady kbd kjh krc kum lez myv mhr tyv "
     "alt bua xal ab sr-Cyrl uz-Cyrl "},
};
/* Languages of the rows above that use Latin letters too. */
static const char latin_too[] = " sr ";

/* Characters of everyday texts that were simplified, and what they were before. */
static const char simplified[] =
    "们这个来时为国说会学对发过还没样后开长问见关点现进实经动业种电东车书马鸟鱼门间听话语请谢认识让给红绿钱买卖写读"
    "爱亲师帮边远运飞机场体头脑脸题页风气汉华丽义乐习乡万与专两严丧丰临举么乌亚产亿仅从仓仪价众优伤伟传伦伪儿兰兴养"
    "军农冲决况净减凤创刘则刚剧办务劳势区医单卫压厅历县双变号叶吓吗听员响团园围图圆圣坏块坚处备复够夺奋妇妈宁宝审宫"
    "宽宾将尔尘尝层岁岛币师带库应庙废强归录忆忧怀态总恋恶悬惊惯懒战户执扩扫扬择担拥据换损摄断无旧显晓术杀权条极构标树";
static const char traditional[] =
    "們這個來時為國說會學對發過還沒樣後開長問見關點現進實經動業種電東車書馬鳥魚門間聽話語請謝認識讓給紅綠錢買賣寫讀"
    "愛親師幫邊遠運飛機場體頭腦臉題頁風氣漢華麗義樂習鄉萬與專兩嚴喪豐臨舉麼烏亞產億僅從倉儀價眾優傷偉傳倫偽兒蘭興養"
    "軍農衝決況淨減鳳創劉則剛劇辦務勞勢區醫單衛壓廳歷縣雙變號葉嚇嗎聽員響團園圍圖圓聖壞塊堅處備復夠奪奮婦媽寧寶審宮"
    "寬賓將爾塵嘗層歲島幣師帶庫應廟廢強歸錄憶憂懷態總戀惡懸驚慣懶戰戶執擴掃揚擇擔擁據換損攝斷無舊顯曉術殺權條極構標樹";

static void count_han(t5_writing *w, const char *character, size_t n_bytes)
{
    bool is_simplified = memmem(simplified, sizeof simplified - 1, character, n_bytes) != NULL;
    bool is_traditional = memmem(traditional, sizeof traditional - 1, character, n_bytes) != NULL;
    w->n_han++;
    w->n_simplified += is_simplified && !is_traditional;
    w->n_traditional += is_traditional && !is_simplified;
}

t5_writing t5_writing_of(const char *text, size_t n_bytes)
{
    t5_writing w = {.script = USCRIPT_COMMON};
    size_t counts[SCRIPTS_MAX] = {0};
    size_t length;

    for (size_t pos = 0; pos < n_bytes; pos += length) {
        UErrorCode error = U_ZERO_ERROR;
        uint32_t code;
        length = t5_utf8_next(text + pos, n_bytes - pos, &code);
        if (!u_isalpha((UChar32)code)) continue;
        UScriptCode script = uscript_getScript((UChar32)code, &error);
        bool is_kana = script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA;
        if (script == USCRIPT_HAN) count_han(&w, text + pos, length);
        w.n_kana += is_kana;
        if (is_kana || script == USCRIPT_BOPOMOFO) script = USCRIPT_HAN;
        bool is_script = U_SUCCESS(error) && script > USCRIPT_INHERITED && (size_t)script < SCRIPTS_MAX;
        if (!is_script) continue;
        w.n_letters++;
        counts[script]++;
        if (counts[script] > counts[w.script]) w.script = script;
    }
    if (w.n_kana > 0 && (w.n_kana + w.n_han) * JAPANESE_SHARE >= w.n_letters) w.script = USCRIPT_HAN;
    return w;
}

bool t5_script_has(UScriptCode script, const char *code)
{
    bool is_listed = false;
    for (size_t i = 0; i < T5_COUNT(scripts); i++) {
        if (!t5_has_word(scripts[i].languages, code)) continue;
        if (scripts[i].script == script) return true;
        is_listed = true;
    }
    return script == USCRIPT_LATIN && (!is_listed || t5_has_word(latin_too, code));
}

bool t5_script_is_sole(UScriptCode script)
{
    for (size_t i = 0; i < T5_COUNT(scripts); i++)
        if (scripts[i].script == script) return strchr(scripts[i].languages + 1, ' ')[1] == '\0';
    return false;
}

const char *t5_script_main(UScriptCode script)
{
    static const struct {
        UScriptCode script;
        const char *code;
    } mains[] = {{USCRIPT_HEBREW, "he"},   {USCRIPT_MYANMAR, "my"}, {USCRIPT_TIBETAN, "bo"},
                 {USCRIPT_ETHIOPIC, "am"}, {USCRIPT_BENGALI, "bn"}, {USCRIPT_DEVANAGARI, "hi"},
                 {USCRIPT_ARABIC, "ar"},   {USCRIPT_CYRILLIC, "ru"}};
    for (size_t i = 0; i < T5_COUNT(mains); i++)
        if (mains[i].script == script) return mains[i].code;
    return NULL;
}
