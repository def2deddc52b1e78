#!/usr/bin/env python3
"""Claim: every odd request gets exactly the status, and the words, that docs/api.md promises, and never ends the server.
Method: a table of requests as bytes against a server with the fake translator. Usage: test_statuses.py T5SERVE_FAKE"""
import json
import sys

from server import Server, chunked, post

BODY_MAX, CHARS_MAX, TEXTS_MAX, ALTERNATIVES_MAX = 1500000, 120000, 50, 5
BAD = "The browser (or proxy) sent a request that this server could not understand."
FORM = "application/x-www-form-urlencoded"
FLAGS = ["--max-request-bytes", str(BODY_MAX), "--char-limit", str(CHARS_MAX), "--max-texts-per-request", str(TEXTS_MAX),
         "--alternatives-limit", str(ALTERNATIVES_MAX)]


def js(body, **kwargs):
    """POST /translate with JSON: bytes as they are, or fields beside good ones (None takes one away with "-")."""
    if isinstance(body, dict):
        fields = {"q": "Hello", "source": "en", "target": "de", **body}
        body = json.dumps({k: v for k, v in fields.items() if v != "-"}).encode()
    return post("/translate", body, **kwargs)


def form(body, content_type=FORM):
    return post("/translate", body if isinstance(body, bytes) else body.encode(), content_type)


def padded(n):
    """A good JSON body of exactly n bytes."""
    fields = {"q": "Hello", "source": "en", "target": "de", "x": ""}
    fields["x"] = "x" * (n - len(json.dumps(fields)))
    return json.dumps(fields).encode()


def multipart(*parts, end=b"--Bound1--\r\n"):
    body = b"".join(b'--Bound1\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % p for p in parts) + end
    return post("/translate", body, "multipart/form-data; boundary=Bound1")


def head(*lines, body=b""):
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


TAIL = b'","source":"en","target":"de"}'
GOOD = [(b"q", b"Hi"), (b"source", b"en"), (b"target", b"de")]
CASES = [
    # --- sizes ---
    (200, "", "body of the limit", post("/translate", padded(BODY_MAX))),
    (413, "too large", "limit + 1", post("/translate", padded(BODY_MAX + 1))),
    (200, "", "chunked, the limit", chunked("/translate", padded(BODY_MAX))),
    (413, "too large", "chunked, limit + 1", chunked("/translate", padded(BODY_MAX + 1))),
    (413, "too large", "chunked, far over", chunked("/translate", padded(BODY_MAX * 4))),
    (413, "too large", "length 2^63", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: 9223372036854775808")),
    (413, "", "length 2^64", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: 18446744073709551616")),
    (413, "too large", "413 at once, no body sent", head("POST /translate HTTP/1.1", "Host: x", f"Content-Length: {BODY_MAX + 1}")),
    (413, "too large", "413 at once with Expect", head("POST /translate HTTP/1.1", "Host: x", f"Content-Length: {BODY_MAX + 1}",
                                                       "Expect: 100-continue")),
    (200, "", "100 kB text", js({"q": "Hello world. " * 7700})),
    (200, "", "text of the limit", js({"q": "ü" * CHARS_MAX})),
    (400, "Invalid request: request (120001) exceeds text limit (120000)", "text over the limit",
     js(json.dumps({"q": "ü" * (CHARS_MAX + 1), "source": "en", "target": "de"}, ensure_ascii=False).encode())),
    (200, "", "batch of the limit", js({"q": ["a"] * TEXTS_MAX})),
    (400, "Invalid request: request (51) exceeds text limit (50)", "batch over the limit", js({"q": ["a"] * 51})),
    (414, "", "40 kB path", head("GET /" + "a" * 80000 + " HTTP/1.1", "Host: x")),
    (431, "", "40 kB header", head("GET /health HTTP/1.1", "Host: x", "X: " + "a" * 80000)),
    (200, "", "40 kB query", head("POST /translate?source=en&target=de&q=" + "a" * 40000 + " HTTP/1.1", "Host: x")),
    # --- empty and missing ---
    (400, BAD, "empty JSON body", js(b"")),
    (400, BAD, "no body, JSON type", head("POST /translate HTTP/1.1", "Host: x", "Content-Type: application/json")),
    (400, "missing q parameter", "no body, no type", head("POST /translate HTTP/1.1", "Host: x")),
    (400, "missing q parameter", "empty form", form("")),
    (400, "Invalid request: missing q parameter", "empty text", js({"q": ""})),
    (400, "Invalid request: missing q parameter", "null text", js({"q": None})),
    (400, "Invalid request: missing q parameter", "no text", js({"q": "-"})),
    (400, "Invalid request: missing q parameter", "empty batch", js({"q": []})),
    (400, "Invalid request: missing source parameter", "no source", js({"source": "-"})),
    (400, "Invalid request: missing source parameter", "empty source", js({"source": ""})),
    (400, "Invalid request: missing target parameter", "null target", js({"target": None})),
    (400, "missing q parameter", "q is named before source", js({"q": "-", "source": "-"})),
    (200, "", "empty text in a batch", js({"q": ["Hi", ""]})),
    (200, "", "empty format, null key", js({"format": "", "api_key": None})),
    # --- wrong types ---
    (400, "q must be a string or an array", "q number", js({"q": 1})),
    (400, "q must be a string or an array", "q object", js({"q": {"a": 1}})),
    (400, "q must be a string or an array", "q boolean", js({"q": True})),
    (400, "q must be a string or an array", "null in the batch", js({"q": ["a", None]})),
    (400, "q must be a string or an array", "batch in the batch", js({"q": [["a"]]})),
    (400, "source must be a string", "source number", js({"source": 1})),
    (400, "target must be a string", "target list", js({"target": ["de"]})),
    (400, "format must be a string", "format number", js({"format": 1})),
    (400, "Invalid JSON format", "array", js(b"[1]")),
    (400, "Invalid JSON format", "string", js(b'"q"')),
    (400, "Invalid JSON format", "null", js(b"null")),
    (400, "alternatives parameter is not a number", "alternatives text", js({"alternatives": "x"})),
    (400, "alternatives parameter is not a number", "alternatives null", js({"alternatives": None})),
    (400, "alternatives parameter is not a number", "alternatives real", js({"alternatives": 1.5})),
    (400, "alternatives parameter is not a number", "alternatives boolean", js({"alternatives": True})),
    (200, "", "alternatives numeric string", js({"alternatives": "2"})),
    (200, "", "alternatives below zero", js({"alternatives": -1})),
    (400, "Invalid request: alternatives parameter must be <= 5", "alternatives over the limit", js({"alternatives": 6})),
    (400, "num_beams", "num_beams text", js({"num_beams": "x"})),
    (400, "num_beams", "num_beams null is the default, 0 is not allowed", js({"num_beams": 0})),
    (200, "", "num_beams null", js({"num_beams": None})),
    (400, "num_beams", "num_beams huge", js({"num_beams": 2**40})),
    (400, "temperature", "temperature list", js({"temperature": [1]})),
    (400, "early_stopping", "early_stopping text", js({"early_stopping": "sometimes"})),
    (200, "", "options", js({"num_beams": 2, "early_stopping": "never", "length_penalty": 0.5, "do_sample": False})),
    (200, "", "options in a form", form("q=Hi&source=en&target=de&num_beams=2&early_stopping=never&seed=")),
    (400, "num_beams", "option in a form", form("q=Hi&source=en&target=de&num_beams=two")),
    # --- languages and format ---
    (400, "zz is not supported", "unknown source", js({"source": "ZZ"})),
    (400, "zz is not supported", "unknown target", js({"target": "zz"})),
    (400, "auto is not supported", "target auto", js({"target": "auto"})),
    (200, "", "source auto", js({"source": "AUTO"})),
    (200, "", "same language", js({"target": "en"})),
    (200, "", "region and case", js({"source": "en_US", "target": "DE-at"})),
    (400, "English (en) is not available as a target language from German (de)", "no such pair",
     js({"source": "de", "target": "en"})),
    (400, "xml format is not supported", "xml", js({"format": "xml"})),
    (400, "xml format is not supported", "xml", js({"format": "xml"})),
    (400, "is not supported", "language with quotes and newline", js({"target": 'a"\n<b>'})),
    (400, "is not supported", "language of 10 kB", js({"target": "ä" * 10000})),
    # --- JSON ---
    (400, BAD, "not JSON", js(b"{bad")),
    (400, BAD, "trailing text", js(b'{"q":"a' + TAIL + b"x")),
    (400, BAD, "duplicate key", js(b'{"q":"b","q":"a' + TAIL)),
    (400, BAD, "invalid UTF-8", js(b'{"q":"\xff' + TAIL)),
    (400, BAD, "overlong UTF-8", js(b'{"q":"\xc0\xaf' + TAIL)),
    (400, BAD, "UTF-8 surrogate", js(b'{"q":"\xed\xa0\x80' + TAIL)),
    (400, BAD, "cut UTF-8", js(b'{"q":"\xe2\x82' + TAIL)),
    (400, BAD, "NUL byte", js(b'{"q":"a\0' + TAIL)),
    (400, BAD, "NUL escape", js(b'{"q":"a\\u0000' + TAIL)),
    (400, BAD, "lone high surrogate", js(b'{"q":"\\ud83d' + TAIL)),
    (400, BAD, "lone low surrogate", js(b'{"q":"\\ude00' + TAIL)),
    (200, "", "surrogate pair", js(b'{"q":"\\ud83d\\ude00' + TAIL)),
    (200, "", "noncharacter", js(b'{"q":"\\uffff' + TAIL)),
    (400, BAD, "byte order mark", js(b'\xef\xbb\xbf{"q":"a' + TAIL)),
    (400, BAD, "raw control character", js(b'{"q":"a\x01' + TAIL)),
    (400, BAD, "integer 2^63", js(b'{"x":9223372036854775808,"q":"a' + TAIL)),
    (400, BAD, "real 1e400", js(b'{"x":1e400,"q":"a' + TAIL)),
    (400, BAD, "NaN", js(b'{"x":NaN,"q":"a' + TAIL)),
    (200, "", "depth 2", js(b'{"x":[],"q":"a' + TAIL)),
    (200, "", "depth 1000", js(b'{"x":' + b"[" * 1000 + b"]" * 1000 + b',"q":"a' + TAIL)),
    (400, BAD, "depth 3000", js(b'{"x":' + b"[" * 3000 + b"]" * 3000 + b',"q":"a' + TAIL)),
    (400, "more than 65536 JSON values", "depth 100000", js(b'{"x":' + b"[" * 100000)),
    (400, "more than 65536 JSON values", "depth 1000000", js(b'{"x":' + b"[" * 1000000)),
    (400, "more than 65536 JSON values", "100000 objects", js(b'{"x":[' + b"{}," * 70000 + b'{}],"q":"a' + TAIL)),
    (400, "more than 65536 JSON values", "100000 keys",
     js(b"{" + b"".join(b'"%d":1,' % i for i in range(100000)) + b'"q":"a' + TAIL)),
    (200, "", "20000 keys", js(b"{" + b"".join(b'"%d":1,' % i for i in range(20000)) + b'"q":"a' + TAIL)),
    (200, "", "commas in a string", js({"q": "," * 70000})),
    # --- content types and forms ---
    (200, "", "JSON suffix and charset", js({}, content_type="Application/vnd.api+JSON; charset=utf-8")),
    (400, "missing q parameter", "JSON as text/plain", js({}, content_type="text/plain")),
    (400, "missing q parameter", "JSON without a type", js({}, content_type=None)),
    (200, "", "form", form("q=Hello&source=en&target=de")),
    (200, "", "form, + and %", form("q=a+b%20%C3%A4%zz%&source=en&target=de")),
    (400, "not valid UTF-8", "form, invalid UTF-8", form("q=%ff&source=en&target=de")),
    (400, "NUL", "form, NUL", form("q=a%00b&source=en&target=de")),
    (200, "", "form, repeated q", form("q=first&q=second&source=en&target=de")),
    (400, "more than 1024 form fields", "form, 2000 fields", form("&".join(f"k{i}=1" for i in range(2000)))),
    (200, "", "query only", head("POST /translate?q=Hi&source=en&target=de HTTP/1.1", "Host: x")),
    (200, "", "query and form", post("/translate?q=Hi", b"source=en&target=de", FORM)),
    (400, "not valid UTF-8", "query, invalid UTF-8", head("POST /translate?q=%ff&source=en&target=de HTTP/1.1", "Host: x")),
    (400, "NUL", "query, NUL", head("POST /translate?q=a%00&source=en&target=de HTTP/1.1", "Host: x")),
    (400, "missing q parameter", "query is ignored with JSON", post("/translate?q=Hi", b'{"source":"en","target":"de"}')),
    (200, "", "multipart", multipart(*GOOD)),
    (200, "", "multipart, empty part", multipart((b"api_key", b""), *GOOD)),
    (400, "missing q parameter", "multipart, empty q", multipart((b"q", b""), *GOOD[1:])),
    (200, "", "multipart, as .NET and Apache's HttpClient write it", post(
        "/detect", b"--b\r\nContent-Disposition: form-data; name=q\r\n\r\nHi\r\n--b--\r\n", "multipart/form-data; boundary=b; charset=UTF-8")),
    (400, BAD, "multipart, no end", multipart(*GOOD, end=b"--Bound1\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nabc")),
    (400, "not valid UTF-8", "multipart, invalid UTF-8", multipart((b"q", b"\xff"), *GOOD[1:])),
    (400, "NUL", "multipart, NUL", multipart((b"q", b"a\0b"), *GOOD[1:])),
    (400, "", "multipart without a boundary", form("--Bound1\r\n", "multipart/form-data")),
    (400, "", "multipart, garbage", form("garbage", "multipart/form-data; boundary=Bound1")),
    # --- paths and methods ---
    (200, "", "health", head("GET /health HTTP/1.1", "Host: x")),
    (200, "", "live", head("GET /health/live HTTP/1.1", "Host: x")),
    (200, "", "ready", head("GET /health/ready HTTP/1.1", "Host: x")),
    (200, "", "languages", head("GET /languages HTTP/1.1", "Host: x")),
    (200, "", "languages with a body", head("GET /languages HTTP/1.1", "Host: x", "Content-Length: 9",
                                            "Content-Type: " + FORM, body=b"api_key=x")),
    (200, "", "health with JSON type", head("GET /health HTTP/1.1", "Host: x", "Content-Type: application/json")),
    (200, "", "HEAD", head("HEAD /languages HTTP/1.1", "Host: x")),
    (200, "", "absolute form", head("GET HTTP://x:5000/health?a=b HTTP/1.1", "Host: x")),
    (200, "", "absolute form without a path", head("GET http://x HTTP/1.1", "Host: x")),
    (404, "not found", "absolute form, unknown path", head("GET http://x/health/x HTTP/1.1", "Host: x")),
    (405, "method not allowed", "GET translate", head("GET /translate HTTP/1.1", "Host: x")),
    (405, "method not allowed", "POST languages", post("/languages", b"")),
    (405, "method not allowed", "POST languages with a body", post("/languages", b"api_key=x", FORM)),
    (405, "method not allowed", "BREW", head("BREW /translate HTTP/1.1", "Host: x")),
    (404, "not found", "unknown path", head("GET /nothing HTTP/1.1", "Host: x")),
    (404, "slash too many", "trailing slash", post("/translate/", b"{}")),
    (404, "slash too many", "leading slashes", post("//translate", b"{}")),
    (404, "not found", "metrics are off", head("GET /metrics HTTP/1.1", "Host: x")),
    (404, "not found", "OPTIONS of nothing", head("OPTIONS /nothing HTTP/1.1", "Host: x")),
    (200, "", "OPTIONS", head("OPTIONS /translate HTTP/1.1", "Host: x")),
    # --- heads that a proxy may read otherwise ---
    (400, "headers", "length and chunked", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: 5",
                                                "Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    (400, "headers", "two lengths", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: 0", "Content-Length: 5")),
    (400, "headers", "two hosts", head("GET /health HTTP/1.1", "Host: x", "Host: y")),
    (400, "", "no host", head("GET /health HTTP/1.1")),
    (400, "headers", "space before the colon", head("POST /translate HTTP/1.1", "Host: x", "Content-Length : 5", body=b"GET /")),
    (400, "headers", "unknown coding", head("POST /translate HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked")),
    (400, "headers", "identity coding", head("POST /translate HTTP/1.1", "Host: x", "Transfer-Encoding: identity")),
    (400, "headers", "control character in a value", head("GET /health HTTP/1.1", "Host: x", "X: a\x01b")),
    (400, "", "length -1", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: -1")),
    (400, "", "length 0x5", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: 0x5")),
    (400, "", "length 5, 5", head("POST /translate HTTP/1.1", "Host: x", "Content-Length: 5, 5")),
    (505, "", "HTTP/2.0", head("GET /health HTTP/2.0", "Host: x")),
    # --- our own failures ---
    (400, "Invalid request: max_new_tokens: 9, at most 8", "what the translator refuses", js({"q": "fail=arg"})),
    (400, "^French (fr) is not available as a target language from German (de)", "no pair from what was detected",
     js({"q": "fail=pair"})),
    (503, "queue is full", "queue full", js({"q": "busy"})),
    (500, "internal error", "an error of ours does not show its path", js({"q": "fail=io"})),
]


def is_said(words, error):
    """The error has the words; with ^ before them it begins with them."""
    return error.startswith(words[1:]) if words.startswith("^") else words in error


def check(server, status, words, name, request):
    reply = server.raw(request)
    problems = []
    if reply.status != status:
        problems.append(f"status {reply.status}, expected {status}")
    if status in (200, 400, 404, 405, 500, 503) and words and not is_said(words, reply.error):
        problems.append(f"error {reply.error!r}, expected {words!r}")
    if status == 503 and "retry-after" not in reply.headers:
        problems.append("no Retry-After")
    if status == 405 and "OPTIONS" not in reply.headers.get("allow", ""):
        problems.append("no Allow")
    if words and reply.status and "access-control-allow-origin" not in reply.headers:
        problems.append("no CORS headers")
    if b"/secret" in reply.body:
        problems.append("an inner path is shown")
    for problem in problems:
        print(f"{name}: {problem}")
    return not problems


def main():
    with Server(sys.argv[1], *FLAGS) as server:
        n_good = sum(check(server, *case) for case in CASES)
        assert server.translate("still here").json() == {"translatedText": "de:still here"}
    print(f"{n_good} of {len(CASES)} requests got the promised status")
    sys.exit(n_good != len(CASES))


main()
