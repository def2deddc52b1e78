#!/usr/bin/env python3
"""Claim: what LibreTranslate's HTTP layer answers (its own tests, and requests seen against version 1.9), this server answers too, or
better where docs/api.md says so. Method: a table of requests: status, and what the answer must be. Usage: test_upstream.py T5SERVE"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from urllib.parse import urlencode

from server import Server, post

PROGRAM = sys.argv.pop(1)
FORM = "application/x-www-form-urlencoded"

CORS = {"access-control-allow-origin": "*", "access-control-allow-methods": "GET, POST", "access-control-max-age": "1728000"}


def js(path, **fields):
    return post(path, json.dumps(fields).encode())


def form(path, text, *headers):
    return post(path, text.encode(), FORM, headers)


def bare(method, path, *headers, body=b""):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers]).encode() + b"\r\n\r\n" + body


def multipart(**fields):
    parts = "".join(f'--Bound\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items())
    return post("/translate", (parts + "--Bound--\r\n").encode(), "multipart/form-data; boundary=Bound")


def is_detected(value):
    return set(value) == {"confidence", "language"} and isinstance(value["confidence"], float) and 0 <= value["confidence"] <= 100


def only(*keys):
    return lambda reply: sorted(reply) == sorted(keys) and reply["translatedText"] != ""


GOOD = {"q": "Hello", "source": "en", "target": "de"}
DETECTED = only("translatedText", "detectedLanguage")
TABLE = [
    # Ways to send fields.
    ("json", js("/translate", **GOOD), 200, only("translatedText")),
    ("json with a parameter", post("/translate", json.dumps(GOOD).encode(), "Application/JSON; charset=utf-8"), 200, only("translatedText")),
    ("json of another kind", post("/translate", json.dumps(GOOD).encode(), "application/vnd.api+json"), 200, only("translatedText")),
    ("json, query ignored", post("/translate?target=zz", json.dumps(GOOD).encode()), 200, only("translatedText")),
    ("form", form("/translate", urlencode(GOOD)), 200, only("translatedText")),
    ("query and form, the query first", form("/translate?target=de", "q=Hello&source=en&target=zz"), 200, only("translatedText")),
    ("multipart", multipart(**GOOD, api_key=""), 200, only("translatedText")),
    ("query alone, no body", bare("POST", "/translate?" + urlencode(GOOD), "Content-Length: 0"), 200, only("translatedText")),
    ("query alone, no length", bare("POST", "/translate?" + urlencode(GOOD)), 200, only("translatedText")),
    ("json as text", post("/translate", json.dumps(GOOD).encode(), "text/plain"), 400, "Invalid request: missing q parameter"),
    ("unknown fields", js("/translate", **GOOD, secret="x", foo=[1]), 200, only("translatedText")),
    ("null key", js("/translate", **GOOD, api_key=None), 200, only("translatedText")),
    ("a key that nobody needs", js("/translate", **GOOD, api_key="x"), 200, only("translatedText")),
    # Shapes of the answer.
    ("auto", js("/translate", **{**GOOD, "source": "auto"}), 200, lambda r: DETECTED(r) and is_detected(r["detectedLanguage"])),
    ("AUTO", js("/translate", **{**GOOD, "source": "AUTO", "target": "DE"}), 200, DETECTED),
    ("array of one", js("/translate", **{**GOOD, "q": ["Hello"]}), 200,
     lambda r: list(r) == ["translatedText"] and len(r["translatedText"]) == 1),
    ("array, auto", js("/translate", q=["Hello", "Good morning."], source="auto", target="de"), 200,
     lambda r: len(r["translatedText"]) == len(r["detectedLanguage"]) == 2 and all(map(is_detected, r["detectedLanguage"]))),
    ("array, alternatives", js("/translate", **{**GOOD, "q": ["Hello", "Bye"], "alternatives": 2}), 200,
     lambda r: sorted(r) == ["alternatives", "translatedText"] and all(len(a) <= 2 for a in r["alternatives"])),
    ("array with an empty text", js("/translate", **{**GOOD, "q": ["Hi", ""]}), 200, lambda r: r["translatedText"][1] == ""),
    ("alternatives", js("/translate", **GOOD, alternatives=3), 200,
     lambda r: len(set(r["alternatives"]) - {"", r["translatedText"]}) == len(r["alternatives"]) <= 3),
    ("alternatives as text", form("/translate", urlencode({**GOOD, "alternatives": "1"})), 200, only("translatedText", "alternatives")),
    ("alternatives below none", js("/translate", **GOOD, alternatives=-1), 200, only("translatedText")),
    ("format text", js("/translate", **GOOD, format="text"), 200, only("translatedText")),
    ("format empty", js("/translate", **GOOD, format=""), 200, only("translatedText")),
    ("symbols come back", js("/translate", q="😀 42", source="auto", target="de"), 200,
     lambda r: r == {"translatedText": "😀 42", "detectedLanguage": {"confidence": 0.0, "language": "en"}}),
    ("same language", js("/translate", q=" Hello \n", source="en", target="en"), 200, lambda r: r == {"translatedText": " Hello \n"}),
    ("lines are kept", js("/translate", **{**GOOD, "q": "a\n\nb"}), 200, lambda r: r["translatedText"].count("\n") == 2),
    ("a form drops one line end", form("/translate", "q=Hi%0D%0A&source=en&target=en"), 200, lambda r: r["translatedText"] == "Hi"),
    ("codes of other forms", js("/translate", q="Hello", source="en_US", target="de-AT"), 200, only("translatedText")),
    # Errors, and their order.
    ("no q", form("/translate", "source=en&target=de"), 400, "Invalid request: missing q parameter"),
    ("empty q", js("/translate", **{**GOOD, "q": ""}), 400, "Invalid request: missing q parameter"),
    ("empty array", js("/translate", **{**GOOD, "q": []}), 400, "Invalid request: missing q parameter"),
    ("no source", js("/translate", q="a", target="zz"), 400, "Invalid request: missing source parameter"),
    ("no target", js("/translate", q="a", source="zz", target=""), 400, "Invalid request: missing target parameter"),
    ("alternatives no number", form("/translate", urlencode({**GOOD, "alternatives": "x"})), 400,
     "Invalid request: alternatives parameter is not a number"),
    ("alternatives null", js("/translate", **{**GOOD, "alternatives": None}), 400, "Invalid request: alternatives parameter is not a number"),
    ("unknown source", js("/translate", q="a", source="zz", target="yy", format="no"), 400, "zz is not supported"),
    ("unknown target", js("/translate", q="a", source="en", target="zt", format="no"), 400, "zt is not supported"),
    ("target auto", js("/translate", q="a", source="en", target="auto"), 400, "auto is not supported"),
    ("unknown format", js("/translate", **GOOD, format="HTML"), 400, "HTML format is not supported"),
    ("no such pair", js("/translate", q="a", source="fr", target="de"), 400,
     "German (de) is not available as a target language from French (fr)"),
    ("q a number", js("/translate", **{**GOOD, "q": 1}), 400, "Invalid request: q must be a string or an array of strings"),
    ("broken json", post("/translate", b"{bad"), 400, "The browser (or proxy) sent a request that this server could not understand."),
    ("empty json", post("/translate", b""), 400, "The browser (or proxy) sent a request that this server could not understand."),
    ("json, no object", post("/translate", b"[1]"), 400, "Invalid JSON format"),
    # Methods and paths.
    ("GET /translate", bare("GET", "/translate"), 405, "method not allowed"),
    ("GET /detect", bare("GET", "/detect"), 405, "method not allowed"),
    ("POST /languages", form("/languages", ""), 405, "method not allowed"),
    ("POST /spec", form("/spec", ""), 405, "method not allowed"),
    ("POST /frontend/settings", form("/frontend/settings", ""), 405, "method not allowed"),
    ("a slash too many", form("/translate/", urlencode(GOOD)), 404, "not found: the path has a slash too many"),
    ("unknown path", bare("GET", "/nothing"), 404, "not found"),
    # Detection.
    ("detect", form("/detect", "q=Bonjour tout le monde"), 200,
     lambda r: 1 <= len(r) <= 3 and r[0]["language"] == "fr" and all(map(is_detected, r))),
    ("detect in the query", bare("POST", "/detect?q=Guten+Morgen%2C+wie+geht+es+dir%3F&api_key="), 200, lambda r: r[0]["language"] == "de"),
    ("detect nothing", js("/detect", q="123"), 200, lambda r: r == [{"confidence": 0.0, "language": "en"}]),
    ("detect without q", form("/detect", ""), 400, "Invalid request: missing q parameter"),
    # The small endpoints.
    ("languages", bare("GET", "/languages"), 200, lambda r: r[0]["code"] == "en" and "en" in r[0]["targets"] and r[0]["name"] == "English"),
    ("languages, form with GET", bare("GET", "/languages", f"Content-Type: {FORM}", "Content-Length: 9", body=b"api_key=x"), 200, len),
    ("languages, json with GET", bare("GET", "/languages", "Content-Type: application/json", "Content-Length: 2", body=b"{}"), 200, len),
    ("health", bare("GET", "/health", "Content-Type: application/json"), 200, lambda r: r == {"status": "ok"}),
    ("settings", bare("GET", "/frontend/settings"), 200,
     lambda r: {"charLimit", "keyRequired", "apiKeys", "suggestions", "supportedFilesFormat"} <= set(r) and r["charLimit"] == -1),
    ("spec", bare("GET", "/spec"), 200, lambda r: (r["swagger"], r["info"]["title"], r["basePath"]) == ("2.0", "LibreTranslate", "/")),
    ("suggest", form("/suggest", "q=a&s=b&source=en&target=de"), 403, "Suggestions are disabled on this server."),
    ("files", post("/translate_file", b""), 403, "Files translation are disabled on this server."),
    ("a file", bare("GET", "/download_file/x.txt"), 400, "Files translation are disabled on this server."),
    ("metrics are off", bare("GET", "/metrics"), 404, "not found"),
]


class Upstream(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--pivot=false").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def check(self, server, name, request, status, wanted):
        reply = server.raw(request)
        self.assertEqual((reply.status, reply.headers.get("content-type")), (status, "application/json"), (name, reply.body))
        for header, value in CORS.items():
            self.assertEqual(reply.headers.get(header), value, name)
        if isinstance(wanted, str):
            self.assertEqual(reply.json(), {"error": wanted}, name)
        else:
            self.assertTrue(wanted(reply.json()), (name, reply.body))

    def test_table(self):
        for case in TABLE:
            with self.subTest(case[0]):
                self.check(self.server, *case)

    def test_methods(self):
        """Claim: OPTIONS is a 200 without a body wherever there is something, HEAD what GET is, 405 names what is allowed."""
        for path, allow in (("/translate", "POST, OPTIONS"), ("/detect", "POST, OPTIONS"), ("/languages", "GET, HEAD, OPTIONS"),
                            ("/download_file/x", "GET, HEAD, OPTIONS"), ("/v2/translate", "POST, GET, HEAD, OPTIONS")):
            reply = self.server.raw(bare("OPTIONS", path, "Origin: https://x.example", "Access-Control-Request-Method: POST"))
            self.assertEqual((reply.status, reply.body, reply.headers["allow"]), (200, b"", allow), path)
            self.assertLessEqual(CORS.items(), reply.headers.items())
            self.assertIn("content-type", reply.headers["access-control-allow-headers"].lower())
            reply = self.server.raw(bare("PUT", path, "Content-Length: 0"))
            self.assertEqual((reply.status, reply.headers["allow"]), (405, allow))
        for path in ("/languages", "/spec", "/health", "/", "/nothing"):
            head, get = self.server.raw(bare("HEAD", path)), self.server.get(path)
            self.assertEqual((head.status, head.body, head.headers["content-length"]), (get.status, b"", str(len(get.body))), path)
        reply = self.server.raw(bare("OPTIONS", "/nothing"))
        self.assertEqual((reply.status, reply.headers["access-control-allow-origin"]), (404, "*"))

    def test_limits_and_keys(self):
        """Claim: limits and keys have LibreTranslate's words and statuses, set by its variables, and /spec tells the prefix."""
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "keys.json")
            key = subprocess.run([PROGRAM, "keys", "add", "--file", file, "--req-limit", "100"], capture_output=True, text=True,
                                 check=True).stdout.strip()
            env = {"LT_CHAR_LIMIT": "20", "LT_BATCH_LIMIT": "2", "LT_API_KEYS": "true", "LT_REQ_LIMIT": "0", "T5_API_KEYS": file,
                   "LT_GET_API_KEY_LINK": "https://example.org/key", "LT_ALTERNATIVES_LIMIT": "1", "LT_URL_PREFIX": "/tr/",
                   "LT_LOAD_ONLY": "en,fr", "LT_FRONTEND_TIMEOUT": "250", "LT_FRONTEND_LANGUAGE_SOURCE": "en"}
            good = {**GOOD, "target": "fr", "api_key": key}
            with Server(PROGRAM, env=env) as server:
                for case in (
                    ("no key", js("/tr/translate", **{**good, "api_key": ""}), 400, "Visit https://example.org/key to get an API key"),
                    ("wrong key", js("/tr/translate", **{**good, "api_key": "x"}), 403, "Invalid API key"),
                    ("long text", js("/tr/translate", **{**good, "q": "ü" * 21}), 400, "Invalid request: request (21) exceeds text limit (20)"),
                    ("many texts", js("/tr/translate", **{**good, "q": ["a"] * 3}), 400, "Invalid request: request (3) exceeds text limit (2)"),
                    ("alternatives", js("/tr/translate", **good, alternatives=2), 400,
                     "Invalid request: alternatives parameter must be <= 1"),
                    ("a language less", js("/tr/translate", **{**good, "target": "de"}), 400, "de is not supported"),
                    ("fine", js("/tr/translate", **good), 200, only("translatedText")),
                    ("languages", bare("GET", "/tr/languages"), 200, lambda r: [entry["code"] for entry in r] == ["en", "fr"]),
                    ("prefix", bare("GET", "/tr/spec"), 200, lambda r: r["basePath"] == "/tr"),
                    ("page", bare("GET", "/tr/frontend/settings"), 200,
                     lambda r: (r["frontendTimeout"], r["language"]["source"]["code"], r["language"]["target"]["code"]) == (250, "en", "fr")),
                    ("elsewhere", js("/translate", **good), 404, "not found"),
                ):
                    with self.subTest(case[0]):
                        self.check(server, *case)
                for path in ("/", "/tr", "/languages", "/trx/languages"):
                    reply = server.get(path)
                    self.assertEqual((reply.status, reply.headers["location"]), (301, "/tr/"))
                self.assertEqual(server.get("/tr/").status, 200)
                health = [PROGRAM, "--health", "--port", str(server.port)]
                self.assertEqual(subprocess.run([*health, "--url-prefix", "tr"], capture_output=True, check=False).returncode, 0)
                self.assertEqual(subprocess.run(health, capture_output=True, check=False).returncode, 1)

    def test_slow_periods(self):
        """Claim: limits of an hour and a day hold beside that of a minute, and the answer says which one and how long."""
        with Server(PROGRAM, env={"LT_HOURLY_REQ_LIMIT": "2", "LT_DAILY_REQ_LIMIT": "3"}) as server:
            ask = js("/translate", **GOOD)
            self.assertEqual([server.raw(ask).status for _ in range(2)], [200, 200])
            reply = server.raw(ask)
            self.assertEqual((reply.status, reply.error), (429, "Slowdown: 2 per 1 hour"))
            self.assertIn(int(reply.headers["retry-after"]), range(60, 1801))

    def test_token_of_metrics(self):
        """Claim: with a token the metrics are for who sends it: 401 otherwise; without metrics there is nothing to protect."""
        with Server(PROGRAM, env={"LT_METRICS": "true", "LT_METRICS_AUTH_TOKEN": "s3cret"}) as server:
            for given, status in ((None, 401), ("Bearer s3cre", 401), ("Bearer s3creT", 401), ("s3cret", 401), ("bearer s3cret", 200)):
                reply = server.raw(bare("GET", "/metrics", *([f"Authorization: {given}"] if given else [])))
                self.assertEqual(reply.status, status, given)
                self.assertEqual(reply.headers.get("www-authenticate"), "Bearer" if status == 401 else None)

    def test_languages_that_cannot_be(self):
        """Claim: the code that no model knows is named; where no pair is left, no code that a model knows is called unknown."""
        for languages, words in (("en,de,xx", "languages: 'xx' is no language of the model"),
                                 ("en,xx", "languages: no model translates from one of 'en,xx' into another"),
                                 ("en", "languages: no model translates from one of 'en' into another")):
            done = subprocess.run([PROGRAM, "--port", "0", "--languages", languages], capture_output=True, text=True, check=False, timeout=120)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
