#!/bin/sh
# Smoke test of a running t5serve: what a client meets first, with curl alone. Exits 1 when anything is not as promised.
#   docker/smoke.sh [URL]      default http://127.0.0.1:5000; needs a model that translates $SMOKE_SOURCE to $SMOKE_TARGET
# Environment: SMOKE_SOURCE (en), SMOKE_TARGET (de), SMOKE_WAIT_S (30): how long the server may take to become ready.
set -u
case ${1:-} in -*)
    sed -n '2,4s/^# *//p' "$0"
    [ "$1" = --help ] || [ "$1" = -h ]
    exit
    ;;
esac
url=${1:-http://127.0.0.1:5000}
url=${url%/}
source=${SMOKE_SOURCE:-en}
target=${SMOKE_TARGET:-de}
json='Content-Type: application/json'
n_failed=0
n_checked=0

# check NAME STATUS PATTERN curl-arguments...: the status must be equal, the body must match the extended expression.
check() {
    name=$1 status=$2 pattern=$3
    shift 3
    reply=$(curl -s --max-time 60 -w '\n%{http_code}' "$@")
    got=$(printf '%s' "$reply" | tail -n 1)
    body=$(printf '%s' "$reply" | sed '$d')
    n_checked=$((n_checked + 1))
    if [ "$got" != "$status" ] || ! printf '%s' "$body" | grep -Eq "$pattern"; then
        n_failed=$((n_failed + 1))
        printf 'FAILED %s: status %s (expected %s), body: %.300s\n' "$name" "$got" "$status" "$body"
    fi
}

waited=0
until curl -sf -o /dev/null --max-time 2 "$url/health/ready"; do
    waited=$((waited + 1))
    if [ "$waited" -gt "${SMOKE_WAIT_S:-30}" ]; then
        echo "FAILED: $url is not ready"
        exit 1
    fi
    sleep 1
done

pair="\"source\":\"$source\",\"target\":\"$target\""
form="source=$source&target=$target"
text='"translatedText":"[^"]+"'

check health 200 '^\{"status":"ok"\}$' "$url/health"
check live 200 '^\{"status":"ok"\}$' "$url/health/live"
check ready 200 '^\{"status":"ok"\}$' "$url/ready"
check languages 200 "\"code\":\"$source\".*\"targets\":\[" "$url/languages"
check languages_with_body 200 '"targets"' -X GET "$url/languages" -d api_key=x
check languages_post 405 '"error"' -X POST "$url/languages"
check spec 200 '"title":"LibreTranslate"' "$url/spec"
check settings 200 '"charLimit":.*"keyRequired":.*"code":"auto".*"supportedFilesFormat":' "$url/frontend/settings"
check json 200 "^\{$text\}\$" "$url/translate" -H "$json" -d "{\"q\":\"How are you?\",$pair}"
check form 200 "^\{$text\}\$" "$url/translate" -d "q=Hello&$form"
check multipart 200 "^\{$text\}\$" "$url/translate" -F q=Hello -F "source=$source" -F "target=$target" -F api_key=
check query 200 "^\{$text\}\$" -X POST "$url/translate?q=Hello&$form&format=text"
check auto 200 '"detectedLanguage":\{"confidence":[0-9.]+,"language":"' "$url/translate" -H "$json" \
    -d "{\"q\":\"This is a house.\",\"source\":\"auto\",\"target\":\"$target\"}"
check batch 200 '^\{"translatedText":\["[^"]+",""\]\}$' "$url/translate" -H "$json" -d "{\"q\":[\"Hi\",\"\"],$pair}"
check batch_auto 200 '"detectedLanguage":\[\{[^]]*\},\{[^]]*\}\],"translatedText":\["[^"]+","[^"]+"\]' "$url/translate" -H "$json" \
    -d "{\"q\":[\"Hello\",\"Good bye\"],\"source\":\"auto\",\"target\":\"$target\"}"
check batch_of_one 200 '^\{"translatedText":\["[^"]+"\]\}$' "$url/translate" -H "$json" -d "{\"q\":[\"Hello\"],$pair}"
check alternatives 200 '^\{"alternatives":\[.*\],"translatedText":"' "$url/translate" -H "$json" \
    -d "{\"q\":\"Hello\",$pair,\"alternatives\":2}"
check options 200 "$text" "$url/translate" -H "$json" -d "{\"q\":\"Hello\",$pair,\"num_beams\":1,\"max_new_tokens\":20}"
check stream 200 '^data: \{"finish_reason":"stop","translatedText":"' -N "$url/translate" -H "$json" \
    -d "{\"q\":\"Hello\",$pair,\"stream\":true}"
check generate 200 '"texts":\["' "$url/generate" -H "$json" -d '{"input":"translate English to German: Hello"}'
check same_language 200 '^\{"translatedText":"Hello"\}$' "$url/translate" -d "q=Hello&source=$source&target=$source"
check lines 200 '"translatedText":"[^"\\]+\\n\\n[^"\\]+"' "$url/translate" -H "$json" -d "{\"q\":\"Good.\\n\\nBad.\",$pair}"
check missing 400 '^\{"error":"Invalid request: missing q parameter"\}$' "$url/translate" -d "$form"
check unknown 400 '^\{"error":"zz is not supported"\}$' "$url/translate" -d "q=Hi&source=$source&target=zz"
check html 200 '"translatedText":"<p>[^"<]*<b>[^"]*</b>[^"]*</p>"' "$url/translate" -H "$json" \
    -d "{\"q\":\"<p>Hi &amp; <b>bye</b></p>\",$pair,\"format\":\"html\"}"
check html_entity 200 '&amp;' "$url/translate" -H "$json" \
    -d "{\"q\":\"<p>Hi &amp; <b>bye</b></p>\",$pair,\"format\":\"html\"}"
check format 400 '^\{"error":"xml format is not supported"\}$' "$url/translate" -d "q=Hi&$form&format=xml"
check bad_json 400 '^\{"error":' "$url/translate" -H "$json" -d '{bad'
check not_object 400 '^\{"error":"Invalid JSON format"\}$' "$url/translate" -H "$json" -d '[1]'
check get 405 '^\{"error":' "$url/translate"
check nothing 404 '^\{"error":' "$url/nothing"
check detect 200 '^\[\{"confidence":[0-9.]+,"language":"[a-zA-Z-]+"\}' "$url/detect" -d 'q=Good morning, how are you?'
check detect_missing 400 '^\{"error":"Invalid request: missing q parameter"\}$' "$url/detect" -d ''
check suggest 403 '"error"' "$url/suggest" -d "q=a&s=b&$form"
check files 403 '"error"' "$url/translate_file" -F "file=@$0" -F "source=$source" -F "target=$target"
check preflight 200 'Access-Control-Allow-Origin' -i -X OPTIONS "$url/translate" -H 'Origin: https://x.example' \
    -H 'Access-Control-Request-Method: POST'

key='Authorization: DeepL-Auth-Key smoke'
deepl_pair="\"source_lang\":\"$source\",\"target_lang\":\"$target\""
check deepl_form 200 '^\{"translations":\[\{[^}]*"text":"[^"]+"\},\{[^}]*"text":"[^"]+"\}\]\}$' "$url/v2/translate" -H "$key" \
    -d text=Hello -d text=Bye -d "target_lang=$target"
check deepl_json 200 '"billed_characters":5' "$url/v2/translate" -H "$key" -H "$json" \
    -d "{\"text\":[\"Hello\"],$deepl_pair,\"show_billed_characters\":true}"
check deepl_get 200 '"detected_source_language":"' "$url/v2/translate?auth_key=smoke&text=Hello&target_lang=$target"
check deepl_missing 400 "^\{\"message\":\"Parameter 'text' not specified\"\}\$" "$url/v2/translate" -H "$key" -d "target_lang=$target"
check deepl_unknown 400 "^\{\"message\":\"Value for 'target_lang' not supported.\"\}\$" "$url/v2/translate" -H "$key" \
    -d text=Hi -d target_lang=XX
check deepl_languages 200 '"supports_formality":' "$url/v2/languages?type=target" -H "$key"
check deepl_languages_form 200 '"supports_formality":' -X GET "$url/v2/languages" -H "$key" -d type=target
check deepl_usage 200 '"character_count":[0-9]+,"character_limit":[0-9]+' "$url/v2/usage" -H "$key"
check deepl_glossaries 200 '^\{"glossaries":\[' "$url/v2/glossaries" -H "$key"
check completions 200 '"text":"[^"]+"' "$url/v1/completions" -H "$json" -d '{"prompt":"translate English to German: Hello"}'
check models 200 '"object":"list"' "$url/v1/models"

echo "$((n_checked - n_failed)) of $n_checked checks passed on $url"
[ "$n_failed" -eq 0 ]
