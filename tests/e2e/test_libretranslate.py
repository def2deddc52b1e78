#!/usr/bin/env python3
"""The endpoints of LibreTranslate's API beside /translate, and the page. Usage: test_libretranslate.py T5SERVE"""
import json
import re
import sys
import unittest
import urllib.parse

from server import Server

PROGRAM = sys.argv.pop(1)


class LibreTranslate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--char-limit", "2000").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def detect(self, body, content_type="application/x-www-form-urlencoded"):
        reply = self.server.post("/detect", body, content_type)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def test_detects_what_clients_send(self):
        """Claim: a form, a query and JSON give the language, best first, with a confidence of one decimal."""
        found = self.detect("q=Bonjour tout le monde, comment allez-vous ?".encode())
        self.assertEqual(found[0]["language"], "fr")
        self.assertTrue(80 <= found[0]["confidence"] <= 100, found)
        self.assertEqual(round(found[0]["confidence"], 1), found[0]["confidence"])
        self.assertEqual(self.detect("q=Das ist ein kleines Haus am See".encode())[0]["language"], "de")
        self.assertEqual(self.detect(b'{"q": "Where is the station?"}', "application/json")[0]["language"], "en")
        query = self.server.post("/detect?q=Guten+Morgen,+wie+geht+es+dir&api_key=", b"", None)
        self.assertEqual(query.json()[0]["language"], "de")

    def test_several_texts_make_one_list(self):
        """Claim: the longer text weighs more, no language stands twice, and there are at most three."""
        long_german = "Das ist ein ziemlich langer deutscher Satz, der mehr als der andere zählt. "
        for q in ([long_german, "Hello there"], ["Hello there", long_german]):
            body = json.dumps({"q": q}).encode()
            found = self.detect(body, "application/json")
            self.assertEqual(found[0]["language"], "de", found)
            codes = [entry["language"] for entry in found]
            self.assertEqual(len(codes), len(set(codes)))
            self.assertLessEqual(len(codes), 3)

    def test_detect_is_never_empty(self):
        """Claim: what says nothing is English with confidence 0; an empty text within an array is fine."""
        nothing = [{"confidence": 0.0, "language": "en"}]
        for body in ('{"q": "😀"}', '{"q": ["", "  "]}', '{"q": "12345"}'):
            self.assertEqual(self.detect(body.encode(), "application/json"), nothing, body)

    def test_detect_errors(self):
        for body in (b"", b"q=", b"text=Hello"):
            reply = self.server.post("/detect", body, "application/x-www-form-urlencoded")
            self.assertEqual((reply.status, reply.error), (400, "Invalid request: missing q parameter"))
        reply = self.server.post("/detect", b'{"q": [1]}')
        self.assertEqual((reply.status, reply.error), (400, "Invalid request: q must be a string or an array of strings"))
        self.assertEqual(self.server.get("/detect").status, 405)

    def test_settings(self):
        """Claim: /frontend/settings tells the limits of this server, with every key that clients read."""
        settings = self.server.get("/frontend/settings").json()
        self.assertEqual(settings["charLimit"], 2000)
        self.assertEqual(settings["language"]["source"], {"code": "auto", "name": "Auto Detect"})
        self.assertEqual(settings["language"]["target"], {"code": "de", "name": "German"})
        for key in ("apiKeys", "keyRequired", "suggestions", "filesTranslation"):
            self.assertIs(settings[key], False)
        self.assertEqual(settings["supportedFilesFormat"], [])

    def test_specification(self):
        """Claim: /spec is Swagger 2.0 under the title that clients look for, and each of its paths is answered."""
        spec = self.server.get("/spec").json()
        self.assertEqual((spec["swagger"], spec["info"]["title"]), ("2.0", "LibreTranslate"))
        self.assertRegex(spec["info"]["version"], r"^\d+\.\d+")
        self.assertIn("/translate", spec["paths"])
        for path, methods in spec["paths"].items():
            for method in methods:
                reply = self.server.get(path) if method == "get" else self.server.post(path, b"", None)
                self.assertIn(str(reply.status), methods[method]["responses"], path)

    def test_suggestions_are_off(self):
        reply = self.server.post("/suggest", b"q=a&s=b&source=en&target=de", "application/x-www-form-urlencoded")
        self.assertEqual((reply.status, reply.error), (403, "Suggestions are disabled on this server."))

    def test_pages_and_their_parts(self):
        """Claim: all that a page names is served by us, with its type, and the policy forbids everything else."""
        for path in ("/", "/docs"):
            page = self.server.get(path)
            self.assertEqual((page.status, page.headers["content-type"]), (200, "text/html; charset=utf-8"))
            policy = page.headers["content-security-policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            html = page.body.decode()
            self.assertNotRegex(html, r"https?://|<script>|\son\w+=|style=")
            parts = re.findall(r'(?:src|href)="(web/[^"]+)"', html)
            self.assertEqual(len(set(parts)), 3)
            for part in parts:
                reply = self.server.get("/" + part)
                self.assertEqual(reply.status, 200, part)
                self.assertRegex(reply.headers["content-type"], r"^(text/css|text/javascript|image/svg\+xml)")
                self.assertGreater(len(reply.body), 100)

    def test_docs_with_a_slash(self):
        """Claim: /docs/, LibreTranslate's address of the page, leads to ours, also below a prefix; no other path has a slash too
        many. Method: follow the redirection as browsers do."""
        with Server(PROGRAM, "--url-prefix", "/a/b") as prefixed:
            for server, prefix in ((self.server, ""), (prefixed, "/a/b")):
                reply = server.get(prefix + "/docs/")
                self.assertEqual((reply.status, reply.body), (308, b""))
                self.assertEqual(urllib.parse.urljoin(f"http://x{prefix}/docs/", reply.headers["location"]), f"http://x{prefix}/docs")
                self.assertEqual(server.get(prefix + "/docs").status, 200)
                self.assertEqual(server.get(prefix + "/docs//").status, 404)
                self.assertEqual(server.get(prefix + "/languages/").status, 404)

    def test_page_can_be_switched_off(self):
        """Claim: disable_web_ui, or LibreTranslate's name for it, leaves the API alone."""
        with Server(PROGRAM, env={"LT_DISABLE_WEB_UI": "true"}) as server:
            for path in ("/", "/docs", "/docs/", "/web/app.js", "/web/docs.js"):
                self.assertEqual(server.get(path).status, 404)
            self.assertEqual(server.get("/languages").status, 200)


if __name__ == "__main__":
    unittest.main()
