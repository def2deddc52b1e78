#!/usr/bin/env python3
"""Published clients of LibreTranslate, unchanged. Usage: test_clients.py T5SERVE"""
import sys
import unittest

import deep_translator
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


if __name__ == "__main__":
    unittest.main()
