/* text/sentence_words.c: see sentence_words.h. Titles hold what stands before a name or a number; abbreviations that
 * may as well end a sentence ("etc.", "Inc.") are not among them. */
#include "text/sentence_words.h"
#include "text/word_list.h"

#include <string.h>

typedef struct {
    const char *language, *words; /* language "": all */
} word_row;

static const word_row titles[] = {
    {"", " mr mrs ms mx dr prof vs cf gen col capt lt sgt maj rev hon gov sen rep pres e.g i.e "},
    {"de", " hr fr hrn dipl ing bzgl bzw ca evtl ggf inkl exkl lt max min mind mrd mio sog str tel usf vgl zzgl geb "
           "gest jr sr med phil jur nat hl frl abt aufl bd hrsg z.b d.h u.a v.a m.e "},
    {"fr", " m mm mme mmes mlle mlles me pr ste sts mgr av apr env cf éd chap p.ex "},
    {"es", " sr sra srta sres dra ud uds vd vds pág págs núm art av avda gral lic ing p.ej "},
    {"pt", " sr sra srta dra profa av eng exmo exma pág núm p.ex "},
    {"it", " sig sigg dott avv ing arch on geom pag art "},
    {"nl", " dhr mevr mw drs ir bijv blz nr jhr "},
    {"sv", " bl ca dvs fr hr resp st "},
    {"nb", " bl ca dvs hr fr nr st "},
    {"da", " bl ca dvs hr fr nr "},
    {"pl", " np tzn tj ul pl al inż mgr hab ks św gen płk "},
    {"cs", " např tzv ul sv ing mgr doc tj resp "},
    {"ru", " ул им св тов проф акад стр рис "},
    {"uk", " м вул ім св проф акад стор рис "},
};

static const word_row openers[] = {
    {"en", " a an and are at but can could did do does don for he her here his how however i if in is it its let maybe "
           "my no now on our perhaps please she so that the their then there these they this those was we were what "
           "when where who why will would yes you your "},
    {"de",
     " aber also am auch bitte da dann das dein deine den der deshalb die dies diese dieser du ein eine er es hat "
     "heute hier ich ihr ihre im in ist ja jetzt kann mein meine nein nun sie sind so später und unser unsere "
     "vielleicht wann warum was wenn wer wie wir wo "},
    {"fr",
     " alors après au avec aujourd c ce cela ces cet cette d dans de des elle elles en est et il ils j je l la le "
     "les ma mais mes mon nous on où oui non pour pourquoi puis quand que qui sa ses si son ta ton tu un une vous "},
    {"es",
     " a al ahora allí así aquí como cuando de después dónde el ella ellas ellos en entonces era es ese esta este "
     "está esto fue hay hoy la las le lo los luego me mi mis no nos nosotros para pero por porque qué quién se si "
     "sí su sus también te tengo tu tú un una usted ustedes y ya yo "},
    {"pt", " a agora ainda as como de depois e ela elas ele eles em então era essa esse esta este está eu foi há hoje "
           "isso isto mas meu minha na não no nós o onde os para por porque quando que quem se seu sim só sua também "
           "tenho tu um uma você vocês "},
    {"it",
     " adesso al allora anche c che chi ci come così cosa da dopo dove e ed ecco egli era essi ha ho i il in io l "
     "la le lei loro lui ma mi mia mio nel no noi non oggi ora per perché poi quando quello quella questa questo "
     "se si sì sono sua suo ti tu un una voi è "},
    {"nl", " als daar dan dat de deze die dit dus een en er geen haar heb heeft het hier hij hoe hun ik in is ja je "
           "jij jullie kan maar mijn nee nu om onze op toen u uw waar waarom wanneer wat we wie wij ze zij zijn "},
    {"sv", " att de den denna det detta dom du en ett han har hon hur här i ja jag kan man men min mitt nej nu när och "
           "om på sedan så var varför vad vem vi är där "},
    {"nb", " at da de den denne der det dette du en er et han har her hun hva hvem hvor hvorfor hvordan i ja jeg kan "
           "man men min mitt nei nå når og om på så vi "},
    {"da", " at da de den denne der det dette du en er et han har her hun hvad hvem hvor hvorfor hvordan i ja jeg kan "
           "man men min mit nej nu når og om på så vi "},
    {"pl", " a ale był była było co czy dlaczego dziś gdzie i ich jak jest jej jego ja mam mój moja my na nie on ona "
           "one oni ono po potem potrzebuję są się ta tak tam ten teraz to tu ty w więc wy z za "},
    {"cs", " a ale byl byla bylo co já jak je jeho její jsem jsou kde kdo když má mám mé moje můj my na ne nebo o on "
           "ona oni pak po potom proč se ta tady tak tam ten teď to ty v vy z "},
    {"ru", " а в вы где да для до его ее её если здесь и или их как когда кто мой моя мы на не нет но о он она они оно "
           "после потом почему поэтому сейчас так там теперь тогда ты у что это этот эта я "},
    {"uk", " а в ви він вона вони воно де до його її якщо і й або їх як коли хто мій моя ми на не ні але о потім після "
           "тому зараз так там тепер тоді ти у чому що це цей ця я "},
};

static const char ordinal_languages[] = " de da nb nn fi sv cs sk sl hr bs sr pl hu et lv is tr lb ";

static bool is_listed(const word_row *rows, size_t n_rows, const char *language, const char *word)
{
    size_t n_bytes = strcspn(language, "-");
    for (size_t i = 0; i < n_rows; i++) {
        const char *row = rows[i].language;
        bool is_meant = row[0] == '\0' || (strlen(row) == n_bytes && memcmp(row, language, n_bytes) == 0);
        if (is_meant && t5_has_word(rows[i].words, word)) return true;
    }
    return false;
}

bool t5_is_title(const char *language, const char *word)
{
    return is_listed(titles, T5_COUNT(titles), language, word);
}

bool t5_is_opener(const char *language, const char *word)
{
    return is_listed(openers, T5_COUNT(openers), language, word);
}

bool t5_has_ordinals(const char *language)
{
    char code[4] = "";
    size_t n_bytes = strcspn(language, "-");
    if (n_bytes < sizeof code) memcpy(code, language, n_bytes);
    return t5_has_word(ordinal_languages, code);
}
