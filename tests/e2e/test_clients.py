#!/usr/bin/env python3
"""Published clients of LibreTranslate and DeepL, unchanged. Usage: test_clients.py T5SERVE"""
import sys
import unittest

import deep_translator
import deepl
import libretranslatepy

from server import Server

PROGRAM = sys.argv.pop(1)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM).__enter__()
        cls.url = f"http://127.0.0.1:{cls.server.port}/"

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def test_libretranslatepy(self):
        """Claim: every call of LibreTranslate's own Python client works."""
        client = libretranslatepy.LibreTranslateAPI(self.url)
        self.assertEqual([entry["code"] for entry in client.languages()], ["en", "de", "fr"])
        self.assertRegex(client.translate("How are you?", "en", "de"), r"^Wie .*\?$")
        self.assertEqual(client.detect("Bonjour tout le monde")[0]["language"], "fr")

    def test_deep_translator(self):
        """Claim: a client that sends everything in the query, and a key that nobody needs, gets its translation."""
        client = deep_translator.LibreTranslator(source="en", target="de", api_key="x", custom_url=self.url)
        self.assertRegex(client.translate("How are you?"), r"^Wie .*\?$")
        self.assertEqual(len(client.translate_batch(["Good morning.", "Thank you."])), 2)

    def test_deepl(self):
        """Claim: DeepL's own Python client translates, lists languages and reads the usage; its errors are its own."""
        client = deepl.Translator("x", server_url=self.url)
        self.assertRegex(client.translate_text("How are you?", target_lang="DE").text, r"^Wie .*\?$")
        results = client.translate_text(["Good morning.", "Thank you."], source_lang="EN", target_lang="FR")
        self.assertEqual([r.detected_source_lang for r in results], ["EN", "EN"])
        self.assertEqual(results[1].billed_characters, 10)
        self.assertEqual([language.code for language in client.get_target_languages()], ["DE", "FR"])
        self.assertEqual([language.code for language in client.get_source_languages()], ["EN"])
        usage = client.get_usage()
        self.assertGreaterEqual(usage.character.count, 33)
        self.assertFalse(usage.any_limit_reached)
        with self.assertRaisesRegex(deepl.DeepLException, "formality"):
            client.translate_text("Hello", target_lang="DE", formality="more")


if __name__ == "__main__":
    unittest.main()
