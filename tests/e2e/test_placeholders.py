#!/usr/bin/env python3
"""t5serve with the bundled model: whatever it does with placeholders, they are there, through each API and form.
Usage: test_placeholders.py T5SERVE"""
import http.client
import json
import re
import sys
import unittest
import urllib.parse

from load import scaled
from server import Server

PROGRAM = sys.argv.pop(1)
TEXTS = ["You have %d new messages.", "Hello {name}, how are you?", "Please visit https://example.org/help?a=b now.",
         "Write to me@example.org or @me.", "Click <b>here</b>, {{ user.name }}.", "The file %1$s was not found: ${error}",
         "I love #music.\r\n%s\n\n  %(count)s apples\tand {0}", "%s (%d) {x}"]
FOUND = re.compile(r"%\d?\$?[sd]|%\(\w+\)s|\$?\{+[^}]*\}+|https://\S+|\S+@\w+\.org|(?<!\w)[@#]\w+|</?b>")


def found(text):
    return sorted(FOUND.findall(text))


class Placeholders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--metrics").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def reply(self, q, **fields):
        reply = self.server.translate(q, **fields)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def test_each_api(self):
        """Claim: an array, single texts, a form, DeepL's API and a request with decoding options keep all of them."""
        self.assertTrue(all(found(t) for t in TEXTS))
        whole = self.reply(TEXTS)["translatedText"]
        self.assertEqual([found(t) for t in whole], [found(t) for t in TEXTS])
        self.assertEqual(whole[-1], TEXTS[-1])
        self.assertEqual([self.reply(t)["translatedText"] for t in TEXTS], whole)
        for text in self.reply(TEXTS, num_beams=1, do_sample=True, seed=3)["translatedText"]:
            self.assertTrue(found(text), text)
        form = urllib.parse.urlencode({"q": TEXTS[1], "source": "en", "target": "de"}).encode()
        reply = self.server.post("/translate", form, "application/x-www-form-urlencoded")
        self.assertEqual(reply.json()["translatedText"], whole[1])
        deepl = json.dumps({"text": TEXTS, "target_lang": "DE", "source_lang": "EN"}).encode()
        reply = self.server.post("/v2/translate", deepl)
        self.assertEqual([t["text"] for t in reply.json()["translations"]], whole)

    def test_pictures(self):
        """Claim: emoji, which the model would have to spell, come back in their order, each whole, in text and in HTML."""
        pictures = re.compile("(?:[\u2190-\u2bff\U0001f000-\U0001faff\U000e0000-\U000e007f\u200d\ufe0f]|[0-9]\ufe0f\u20e3)+")
        texts = ["The house is red \U0001f600. The dog is big \U0001f44d\U0001f3fd!", "I love \u2764\ufe0f you",
                 "1\ufe0f\u20e3 Hello. 2\ufe0f\u20e3 I am here \U0001f3f4\U000e0067\U000e0062\U000e007f now.",
                 "Hello \U0001f469\u200d\U0001f469\u200d\U0001f467 friend \U0001f1e9\U0001f1ea and %s"]
        self.assertTrue(all(pictures.findall(t) for t in texts))
        for text_format in ("text", "html"):
            for alternatives in (0, 2):
                for text in texts:
                    reply = self.reply(text, format=text_format, alternatives=alternatives)
                    for made in [reply["translatedText"], *reply.get("alternatives", [])]:
                        self.assertEqual(pictures.findall(made), pictures.findall(text), made)

    def test_lone_signs(self):
        """Claim: shapes and lines of tables that stand alone come back in their places, and the words between are translated."""
        texts = ["Show details \u25bc", "\u2502 the house \u2502 the dog \u2502 the cat \u2502",
                 "The house is red. \u25a0 You have a dog."]
        for text_format in ("text", "html"):
            for text, made in zip(texts, self.reply(texts, format=text_format)["translatedText"]):
                cells, cells_made = (re.split("[\u2500-\u25ff]", t) for t in (text, made))
                self.assertEqual(len(cells_made), len(cells), made)
                for cell, cell_made in zip(cells, cells_made):
                    self.assertEqual(cell_made != cell, cell.strip() != "", made)

    def test_alternatives(self):
        """Claim: no alternative lacks a placeholder."""
        for text in TEXTS[:-1]:
            for alternative in self.reply(text, alternatives=3)["alternatives"]:
                self.assertEqual(found(alternative), found(text))

    def test_stream(self):
        """Claim: the pieces of a stream have all of them, and are the translation."""
        for text in TEXTS:
            body = json.dumps({"q": text, "source": "en", "target": "de", "stream": True})
            connection = http.client.HTTPConnection(self.server.host, self.server.port)
            connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
            events = [json.loads(line[6:]) for line in connection.getresponse() if line.startswith(b"data: ")]
            connection.close()
            pieces = "".join(e["text"] for e in events[:-1])
            self.assertEqual(pieces, events[-1]["translatedText"])
            self.assertEqual(found(pieces), found(text))

    def test_long_text(self):
        """Claim: in a long text each stays in its line, also where sentences are too long and cut."""
        lines = [f"I have %{i}$s and {{n{i}}}, " + "the dog and the cat, " * (i % 3 * 40) + f"at https://x.org/{i}?a=b."
                 for i in range(scaled(30, 6))]
        translated = self.reply("\n".join(lines), max_new_tokens=24)["translatedText"].split("\n")
        self.assertEqual(len(translated), len(lines))
        for i, line in enumerate(translated):
            for wanted in (f"%{i}$s", f"{{n{i}}}", f"https://x.org/{i}?a=b"):
                self.assertEqual(line.count(wanted), 1, line)

    def test_second_rounds_are_counted(self):
        """Claim: the metrics tell how many sentences were translated again in parts. Method: one token cannot
        be a placeholder and more."""
        def count():
            text = self.server.get("/metrics").body.decode()
            return int(re.search(r'^t5serve_second_rounds_total{kind="parts"} (\d+)$', text, re.M).group(1))
        before = count()
        self.reply([TEXTS[1], "How are you?"], max_new_tokens=1)
        self.assertEqual(count(), before + 1)

    def test_finish_reason(self):
        """Claim: the reply says when a sentence was cut short, and only then."""
        self.assertEqual(set(self.reply("How are you?")), {"translatedText"})
        self.assertEqual(self.reply("How are you?", max_new_tokens=2)["finish_reason"], "length")
        self.assertEqual(self.reply(["", "How are you?"], max_new_tokens=2)["finish_reason"], "length")
        self.assertNotIn("finish_reason", self.reply(["", "%s"], max_new_tokens=2))


if __name__ == "__main__":
    unittest.main(verbosity=2)
