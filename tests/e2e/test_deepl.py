#!/usr/bin/env python3
"""DeepL's API as its clients use it. Usage: test_deepl.py T5SERVE"""
import json
import sys
import unittest
from urllib.parse import urlencode

from server import Server, bundled_pairs

PROGRAM = sys.argv.pop(1)
FORM = "application/x-www-form-urlencoded"
KEY = ["Authorization: DeepL-Auth-Key test"]


class DeepL(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--char-limit", "3000", "--pivot=false").__enter__()
        cls.sources, cls.targets = ({pair[i] for pair in bundled_pairs()} for i in (0, 1))

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def translate(self, **fields):
        reply = self.server.post("/v2/translate", json.dumps(fields).encode(), headers=KEY)
        return reply.status, reply.json()

    def refused(self, message, **fields):
        self.assertEqual(self.translate(**{"text": ["Hello"], "target_lang": "DE", **fields}), (400, {"message": message}))

    def get_with_form(self, path, form):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(form)}\r\n\r\n"
        return self.server.raw(head.encode() + form)

    def get_with_type(self, path):
        """As clients do that call every request JSON, also one without a body."""
        return self.server.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n".encode())

    def test_json(self):
        """Claim: one translation for each text, in order, with what the official clients read from it."""
        status, reply = self.translate(text=["How are you?", "", "Good morning."], source_lang="EN", target_lang="de")
        self.assertEqual((status, len(reply["translations"])), (200, 3))
        first, empty, last = reply["translations"]
        self.assertEqual(first["text"], self.server.translate("How are you?").json()["translatedText"])
        self.assertEqual((first["detected_source_language"], first["billed_characters"]), ("EN", 12))
        self.assertEqual((empty["text"], empty["billed_characters"]), ("", 0))
        self.assertNotEqual(last["text"], first["text"])
        self.assertNotIn("model_type_used", first)

    def test_source_is_detected(self):
        status, reply = self.translate(text="Where is the station?", target_lang="DE", model_type="quality_optimized")
        self.assertEqual((status, reply["translations"][0]["detected_source_language"]), (200, "EN"))
        self.assertEqual(reply["translations"][0]["model_type_used"], "latency_optimized")

    def test_form_repeats_text(self):
        """Claim: in a form, in a query, and in both together, every `text` counts."""
        form = urlencode([("text", "Hello."), ("text", "Thank you."), ("target_lang", "FR")]).encode()
        for path, body, n in (("/v2/translate", form, 2), ("/v2/translate?text=Good+night.", form, 3)):
            reply = self.server.post(path, body, FORM)
            self.assertEqual((reply.status, len(reply.json()["translations"])), (200, n), reply.body)
        reply = self.server.get("/v2/translate?auth_key=test&text=Hello.&target_lang=DE&source_lang=EN")
        self.assertEqual((reply.status, len(reply.json()["translations"])), (200, 1))

    def test_same_text_as_libretranslate(self):
        """Claim: both APIs give the same translation."""
        text = "I am tired. Where is the station?\n\nThank you."
        status, reply = self.translate(text=[text], source_lang="EN", target_lang="DE")
        self.assertEqual((status, reply["translations"][0]["text"]), (200, self.server.translate(text).json()["translatedText"]))

    def test_split_sentences(self):
        """Claim: nonewlines makes a line end a space, 0 makes one unit of the text, both as a text without line ends would
        be translated; the default keeps lines; a form and /translate take the same values."""
        lines = "Where is\nthe station?\nI am tired."
        one_line = {"text": ["Where is the station?", lines.replace("\n", " ")], "source_lang": "EN", "target_lang": "DE"}
        joined = [t["text"] for t in self.translate(**one_line)[1]["translations"]]
        whole = self.translate(**one_line, split_sentences="0")[1]["translations"][1]["text"]
        request = {"text": [lines], "source_lang": "EN", "target_lang": "DE"}
        texts = {}
        for how in ("0", "1", "nonewlines"):
            texts[how] = self.translate(**request, split_sentences=how)[1]["translations"][0]["text"]
            form = urlencode([("text", lines), ("target_lang", "DE"), ("source_lang", "EN"), ("split_sentences", how)]).encode()
            self.assertEqual(self.server.post("/v2/translate", form, FORM).json()["translations"][0]["text"], texts[how])
            self.assertEqual(self.server.translate(lines, split_sentences=how).json()["translatedText"], texts[how])
        self.assertEqual(texts["1"], self.translate(**request)[1]["translations"][0]["text"])
        self.assertEqual(texts["1"].count("\n"), 2)
        self.assertEqual(texts["nonewlines"], joined[1].replace(joined[0] + " ", joined[0] + "\n"))
        self.assertEqual(texts["0"], whole)
        reply = self.server.translate(lines, split_sentences="no")
        self.assertEqual((reply.status, reply.error), (400, "Invalid request: split_sentences must be 0, 1 or nonewlines"))

    def test_errors(self):
        """Claim: what is missing or impossible is named in DeepL's words."""
        self.refused("Parameter 'text' not specified", text=[])
        self.refused("Parameter 'text' not specified", text=None)
        self.refused("Parameter 'text' must be an array of strings", text=["a", 1])
        self.refused("Parameter 'text' must be an array of strings", text={"a": 1})
        self.refused("Parameter 'target_lang' not specified", target_lang="")
        self.refused("Value for 'target_lang' not supported.", target_lang="XX")
        self.refused("Value for 'target_lang' not supported.", target_lang=["DE"])
        self.refused("Value for 'target_lang' not supported.", source_lang="DE", target_lang="FR")
        self.refused("Value for 'source_lang' not supported.", source_lang="XX")
        self.refused("Target language 'DE' doesn't support formality.", formality="more")
        self.refused("Value for 'formality' not supported.", formality="rude")
        self.refused("Value for 'tag_handling' not supported.", tag_handling="sgml")
        self.refused("Value for 'glossary_id' not supported.", glossary_id="6b1ab3f8")
        self.refused("Value for 'split_sentences' not supported.", split_sentences="2")
        self.refused("A text has 3001 characters, at most 3000 are taken", text=["a" * 3001])
        reply = self.server.post("/v2/translate", b"target_lang=DE", FORM)
        self.assertEqual((reply.status, reply.json()), (400, {"message": "Parameter 'text' not specified"}))
        self.assertIn("message", self.server.post("/v2/translate", b"{bad").json())

    def test_hints_do_no_harm(self):
        status, _ = self.translate(text=["Hello"], target_lang="EN-GB", source_lang="en", context="a greeting", glossary_id="",
                                   formality="prefer_less", preserve_formatting=True, split_sentences="1",
                                   show_billed_characters=True, unknown=[1])
        self.assertEqual(status, 200)

    def test_languages(self):
        """Claim: sources without a region, targets with, also when the field comes as the form of a GET."""
        sources = self.server.get("/v2/languages").json()
        self.assertEqual(sources[0], {"language": "EN", "name": "English"})
        self.assertEqual([s["language"] for s in sources[1:]], sorted(code.upper() for code in self.sources - {"en"}))
        targets = self.server.get("/v2/languages?type=target").json()
        self.assertEqual({t["language"][:2] for t in targets}, {code.upper() for code in self.targets})
        self.assertEqual("EN-US" in [t["language"] for t in targets], "en" in self.targets)
        self.assertTrue(all(t["supports_formality"] is False for t in targets))
        self.assertEqual(self.get_with_form("/v2/languages", b"type=target").json(), targets)
        self.assertEqual(self.get_with_type("/v2/languages?type=target").json(), targets)
        reply = self.server.get("/v2/languages?type=both")
        self.assertEqual((reply.status, reply.json()["message"][:26]), (400, "Parameter 'type' is invali"))

    def test_v3_lists(self):
        """Claim: version 3 lists the same languages in its own form, for the one resource that there is; others are empty, none or
        an unknown one is refused; what version 2 and 3 lack is said in DeepL's form."""
        languages = {entry["lang"]: entry for entry in self.server.get("/v3/languages?resource=translate_text").json()}
        self.assertEqual({code for code, entry in languages.items() if entry["usable_as_source"]}, self.sources)
        self.assertEqual({code.split("-")[0] for code, entry in languages.items() if entry["usable_as_target"]}, self.targets)
        self.assertEqual(languages["de"]["features"], {"tag_handling": {"status": "stable"}})
        self.assertEqual(self.server.get("/v3/languages?resource=glossary").json(), [])
        for query, message in (("", "Parameter 'resource' not specified"), ("?resource=x", "Value for 'resource' not supported.")):
            reply = self.server.get("/v3/languages" + query)
            self.assertEqual((reply.status, reply.json()), (400, {"message": message}))
        resource, = self.server.get("/v3/languages/resources").json()
        self.assertEqual((resource["name"], [f["name"] for f in resource["features"]]), ("translate_text", ["tag_handling"]))
        for path, status, message in (("/v2/document", 400, "Document translation is not supported."),
                                      ("/v3/glossaries", 400, "Glossaries are not supported."),
                                      ("/v2/write/rephrase", 404, "not found"), ("/v3/nothing", 404, "not found")):
            reply = self.server.post(path, b"", None)
            self.assertEqual((reply.status, reply.json()), (status, {"message": message}), path)
            self.assertEqual(reply.headers["x-trace-id"], reply.headers["x-request-id"])

    def test_usage_and_glossaries(self):
        """Claim: characters add up, the limit is never near, and there are no glossaries rather than no such page."""
        before = self.server.get("/v2/usage").json()["character_count"]
        self.translate(text=["Hello", "Grüße"], target_lang="DE", source_lang="EN")
        usage = self.server.get("/v2/usage").json()
        self.assertEqual(usage["character_count"] - before, 10)
        self.assertGreater(usage["character_limit"], usage["character_count"])
        self.assertEqual(self.server.get("/v2/glossaries").json(), {"glossaries": []})
        self.assertEqual(self.server.get("/v2/glossary-language-pairs").json(), {"supported_languages": []})


if __name__ == "__main__":
    unittest.main()
