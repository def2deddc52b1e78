#!/usr/bin/env python3
"""Texts with HTML and XML through LibreTranslate's and DeepL's API, with the bundled model. What is checked is where tags
are, not which words the model found. Usage: test_markup.py T5SERVE"""
import json
import os
import pathlib
import sys
import unittest
from collections import Counter
from html import unescape

import markup
from server import Server

PROGRAM = sys.argv.pop(1)
CASES = pathlib.Path(__file__).with_name("markup_cases.jsonl")
SCALE = float(os.environ.get("T5_TEST_SCALE", "1"))
N_RANDOM = int(2000 * SCALE)
TEXTS_AT_ONCE = max(5, int(50 * SCALE))  # a build with sanitizers must be done with them within the client's time
TARGETS = ("de", "fr") if SCALE >= 1 else ("de",)


class Markup(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def html(self, q, **fields):
        reply = self.server.translate(q, format="html", **fields)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def deepl(self, text, **fields):
        fields = {"text": [text], "source_lang": "EN", "target_lang": "DE", **fields}
        reply = self.server.post("/v2/translate", json.dumps(fields).encode())
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()["translations"][0]

    def test_cases(self):
        """Claim: each case has its tags in the tree that the case names, and what it wants kept is kept."""
        cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
        self.assertGreaterEqual(len(cases), 60)
        texts = [case["text"] for case in cases if "deepl" not in case]
        for target in TARGETS:
            html = {}
            for i in range(0, len(texts), TEXTS_AT_ONCE):
                part = texts[i:i + TEXTS_AT_ONCE]
                html.update(zip(part, self.html(part, target=target)["translatedText"]))
            for case in cases:
                with self.subTest(case["name"], target=target):
                    if "deepl" in case:
                        got = self.deepl(case["text"], target_lang=target, **case["deepl"])["text"]
                    else:
                        got = html[case["text"]]
                    self.assertEqual(markup.tree(got), case["tree"], got)
                    self.assertEqual(Counter(markup.tags(got)), Counter(markup.tags(case["text"])), got)
                    for kept in case["keep"]:
                        self.assertIn(kept, got)

    def test_random_texts(self):
        """Claim: no text loses, doubles or misplaces a tag. Method: many random fragments from one seed, in arrays; the
        tree of each stays, but for the order of inline neighbours; twice the same text gives the same answer."""
        texts = markup.fragments(seed=5, n=N_RANDOM)
        for i in range(0, len(texts), TEXTS_AT_ONCE):
            part = texts[i:i + TEXTS_AT_ONCE]
            got = self.html(part, max_new_tokens=8)["translatedText"]
            for source, target in zip(part, got):
                self.assertEqual(markup.tree(target), markup.tree(source), (source, target))
                self.assertEqual(Counter(markup.tags(target)), Counter(markup.tags(source)))
        again = self.html(texts[:TEXTS_AT_ONCE], max_new_tokens=8)["translatedText"]
        self.assertEqual(again, self.html(texts[:TEXTS_AT_ONCE], max_new_tokens=8)["translatedText"])

    def test_words_are_the_same(self):
        """Claim: tags change nothing of the translation: it reads like that of the text without them."""
        for text in ("I am <b>tired</b>.", "<p>Where is the <i>station</i>?</p>", "<b>How</b> are <u>you</u>?"):
            plain = "".join(markup.TOKEN.split(text))
            want = self.server.translate(plain).json()["translatedText"]
            got = "".join(markup.TOKEN.split(self.html(text)["translatedText"]))
            self.assertEqual(unescape(got), want)

    def test_tags_follow_their_words(self):
        """Claim: the pair goes where its word went, by the model's attention. Method: a word whose translation is certain,
        first, in the middle and last in its sentence."""
        for text, word in (("Where is <b>Tom</b>?", "Tom"), ("<b>Tom</b> is my brother.", "Tom"), ("I saw <b>Tom</b> today.", "Tom")):
            self.assertIn(f"<b>{word}</b>", self.html(text)["translatedText"])

    def test_fields_of_the_reply(self):
        """Claim: arrays, detection and forms are as for plain text; alternatives are empty lists; the language is that of
        the words, not of the tags; the same language gives the text back byte for byte."""
        many = self.html(["<b>Hello</b>", "", "<br>"], source="auto", alternatives=2)
        self.assertEqual((len(many["translatedText"]), many["translatedText"][1:]), (3, ["", "<br>"]))
        self.assertEqual(many["alternatives"], [[], [], []])
        self.assertEqual(self.html("Hi", alternatives=3)["alternatives"], [])
        words = '<div class="content" data-where="information" style="display: none">Ich bin sehr müde und gehe nach Hause.</div>'
        self.assertEqual(self.html(words, source="auto")["detectedLanguage"]["language"], "de")
        odd = "<P>a &nosuch <b <i>x</I>\n &#x41;"
        self.assertEqual(self.html(odd, target="en")["translatedText"], odd)
        form = self.server.post("/translate", b"q=<i>Hi</i>&source=en&target=de&format=html", "application/x-www-form-urlencoded")
        self.assertRegex(form.json()["translatedText"], r"^<i>.+</i>$")
        plain = self.server.translate("a <b> c", format="text").json()["translatedText"]
        self.assertNotIn("&lt;", plain)

    def test_stream(self):
        """Claim: a text with tags comes in one piece when it is whole, and the last event is the reply."""
        text = "<p>How are <b>you</b>?</p><p>I am tired.</p>"
        reply = self.server.translate([text, "<i>no</i>"], format="html", stream=True)
        body = reply.body if b"\r\n" not in reply.body else b"".join(reply.body.split(b"\r\n")[1::2])
        events = [json.loads(line[6:]) for line in body.decode().split("\n") if line.startswith("data: ")]
        pieces = ["".join(e["text"] for e in events[:-1] if e["index"] == i) for i in range(2)]
        self.assertEqual(pieces, events[-1]["translatedText"])
        self.assertEqual(pieces, self.html([text, "<i>no</i>"])["translatedText"])
        self.assertEqual(len(events), 3)

    def test_limits(self):
        """Claim: too many tags and too deep ones are refused in words."""
        for text, error in (("<b>" * 65537, "the text has more than 65536 tags"),
                            ("y" + "<b>x" * 101 + "</b>" * 101, "inline tags are nested more than 100 deep")):
            reply = self.server.translate(text, format="html")
            self.assertEqual((reply.status, reply.error), (400, "Invalid request: " + error))
            reply = self.server.post("/v2/translate", json.dumps(
                {"text": [text], "target_lang": "DE", "source_lang": "EN", "tag_handling": "xml"}).encode())
            self.assertEqual((reply.status, reply.json()), (400, {"message": error}))
        reply = self.server.translate("x", format="xml")
        self.assertEqual((reply.status, reply.error), (400, "xml format is not supported"))

    def test_deepl(self):
        """Claim: the version of tag handling is told, lists come as arrays or with commas, wrong values are refused."""
        self.assertEqual(self.deepl("<b>Hi</b>", tag_handling="html")["tag_handling_version"], "v1")
        self.assertEqual(self.deepl("Hi", tag_handling="XML", tag_handling_version="v2")["tag_handling_version"], "v2")
        self.assertNotIn("tag_handling_version", self.deepl("Hi", ignore_tags=["x"]))
        self.assertNotIn("&lt;", self.deepl("1 < 2 is right")["text"])
        for names in (["k", "x"], "k,x", " k , x "):
            self.assertIn("<x>Hello you</x>", self.deepl("Now <x>Hello you</x>", tag_handling="xml", ignore_tags=names)["text"])
        for field, value in (("tag_handling", "sgml"), ("tag_handling", True), ("tag_handling_version", "v9"), ("ignore_tags", [1]),
                             ("ignore_tags", {"x": 1}), ("splitting_tags", 5), ("non_splitting_tags", ["a"] * 257),
                             ("outline_detection", "2")):
            fields = {"text": ["Hi"], "target_lang": "DE", "tag_handling": "xml", field: value}
            reply = self.server.post("/v2/translate", json.dumps(fields).encode())
            self.assertEqual((reply.status, reply.json()), (400, {"message": f"Value for '{field}' not supported."}))

    def test_deepl_splits(self):
        """Claim: where sentences end is the client's choice, and tags that end one always do."""
        text = "<p>How are <b>you?\nI</b> am tired.</p><p>Thank you.</p>"
        for split in ("0", "1", "nonewlines"):
            for kind in ("xml", "html"):
                got = self.deepl(text, tag_handling=kind, split_sentences=split)["text"]
                self.assertEqual(markup.tree(got), markup.tree(text), got)


if __name__ == "__main__":
    unittest.main()
