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
check json 200 "^\{$text\}\$" "$url/translate" -H "$json" -d "{\"q\":\"How are you?\",$pair}"
check form 200 "^\{$text\}\$" "$url/translate" -d "q=Hello&$form"
check multipart 200 "^\{$text\}\$" "$url/translate" -F q=Hello -F "source=$source" -F "target=$target" -F api_key=
check query 200 "^\{$text\}\$" -X POST "$url/translate?q=Hello&$form&format=text"
check auto 200 '"detectedLanguage":\{"confidence":[0-9.]+,"language":"' "$url/translate" -H "$json" \
    -d "{\"q\":\"This is a house.\",\"source\":\"auto\",\"target\":\"$target\"}"
check batch 200 '^\{"translatedText":\["[^"]+",""\]\}$' "$url/translate" -H "$json" -d "{\"q\":[\"Hi\",\"\"],$pair}"
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
check format 400 '^\{"error":"xml format is not supported"\}$' "$url/translate" -d "q=Hi&$form&format=xml"
check bad_json 400 '^\{"error":' "$url/translate" -H "$json" -d '{bad'
check not_object 400 '^\{"error":"Invalid JSON format"\}$' "$url/translate" -H "$json" -d '[1]'
check get 405 '^\{"error":' "$url/translate"
check nothing 404 '^\{"error":' "$url/nothing"
check preflight 200 'Access-Control-Allow-Origin' -i -X OPTIONS "$url/translate" -H 'Origin: https://x.example' \
    -H 'Access-Control-Request-Method: POST'

echo "$((n_checked - n_failed)) of $n_checked checks passed on $url"
[ "$n_failed" -eq 0 ]
