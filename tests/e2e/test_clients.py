#!/usr/bin/env python3
"""Published clients of LibreTranslate, DeepL and OpenAI, unchanged. Usage: test_clients.py T5SERVE"""
import io
import sys
import unittest

import deep_translator
import deepl
import libretranslatepy
import openai

from server import Server, bundled_pairs

PROGRAM = sys.argv.pop(1)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM).__enter__()
        cls.url = f"http://127.0.0.1:{cls.server.port}/"
        cls.german = cls.server.translate("How are you?").json()["translatedText"]

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def test_libretranslatepy(self):
        """Claim: every call of LibreTranslate's own Python client works."""
        client = libretranslatepy.LibreTranslateAPI(self.url)
        self.assertEqual({entry["code"] for entry in client.languages()}, {code for pair in bundled_pairs() for code in pair})
        self.assertEqual(client.translate("How are you?", "en", "de"), self.german)
        self.assertEqual(client.detect("Bonjour tout le monde")[0]["language"], "fr")

    def test_deep_translator(self):
        """Claim: a client that sends everything in the query, and a key that nobody needs, gets its translation."""
        client = deep_translator.LibreTranslator(source="en", target="de", api_key="x", custom_url=self.url)
        self.assertEqual(client.translate("How are you?"), self.german)
        self.assertEqual(len(client.translate_batch(["Good morning.", "Thank you."])), 2)

    def test_deepl(self):
        """Claim: DeepL's own Python client translates, lists languages and reads the usage; its errors are its own."""
        client = deepl.Translator("x", server_url=self.url)
        self.assertEqual(client.translate_text("How are you?", target_lang="DE").text, self.german)
        results = client.translate_text(["Good morning.", "Thank you."], source_lang="EN", target_lang="FR")
        self.assertEqual([r.detected_source_lang for r in results], ["EN", "EN"])
        self.assertEqual(results[1].billed_characters, 10)
        sources, targets = ({pair[i].upper() for pair in bundled_pairs()} for i in (0, 1))
        self.assertEqual({language.code.split("-")[0] for language in client.get_target_languages()}, targets)
        self.assertEqual({language.code for language in client.get_source_languages()}, sources)
        usage = client.get_usage()
        self.assertGreaterEqual(usage.character.count, 33)
        self.assertFalse(usage.any_limit_reached)
        with self.assertRaisesRegex(deepl.DeepLException, "formality"):
            client.translate_text("Hello", target_lang="DE", formality="more")

    def test_deepl_tags(self):
        """Claim: what is marked for DeepL comes back: a placeholder of Weblate's kind, ignored content, HTML."""
        client = deepl.Translator("x", server_url=self.url)
        placeholder = client.translate_text('How are <x id="7"></x> &amp; you?', target_lang="DE", tag_handling="xml", ignore_tags=["x"])
        self.assertIn('<x id="7"></x>', placeholder.text)
        self.assertIn("&amp;", placeholder.text)
        kept = client.translate_text("Where is <keep>the station</keep>?", target_lang="FR", tag_handling="xml", ignore_tags="keep")
        self.assertIn("<keep>the station</keep>", kept.text)
        html = client.translate_text("<p>Where is <b>Tom</b>?</p>", target_lang="DE", source_lang="EN", tag_handling="html")
        self.assertRegex(html.text, r"^<p>.*<b>.+</b>.*</p>$")

    def test_openai(self):
        """Claim: OpenAI's own Python client lists the model, completes, samples with a seed, streams, and raises its errors."""
        client = openai.OpenAI(base_url=self.url + "v1", api_key="x", max_retries=0)
        model = client.models.list().data[0].id
        prompts = ["translate English to German: How are you?", "translate English to French: Thank you."]
        whole = client.completions.create(model=model, prompt=prompts)
        self.assertEqual([choice.index for choice in whole.choices], [0, 1])
        self.assertTrue(all(choice.text for choice in whole.choices))
        self.assertEqual(whole.choices[0].finish_reason, "stop")
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        pieces = ["", ""]
        events = list(client.completions.create(model=model, prompt=prompts, stream=True, stream_options={"include_usage": True}))
        for event in events:
            for choice in event.choices:
                pieces[choice.index] += choice.text
        self.assertEqual(pieces, [choice.text for choice in whole.choices])
        self.assertEqual(events[-1].usage, whole.usage)
        sampled = [client.completions.create(model=model, prompt=prompts[0], temperature=1.0, seed=3, n=3, max_tokens=5)
                   for _ in range(2)]
        self.assertEqual(sampled[0].choices, sampled[1].choices)
        self.assertEqual([choice.index for choice in sampled[0].choices], [0, 1, 2])
        self.assertEqual(len(client.completions.create(model=model, prompt=prompts[0], n=2, logprobs=1).choices), 2)
        for wrong in ({"prompt": [[1, 2]]}, {"prompt": "a", "stop": list("abcde")}, {"prompt": "a", "max_tokens": 100000},
                      {"prompt": "a", "echo": True}, {"prompt": "a", "n": 3, "best_of": 2},
                      {"prompt": "a", "best_of": 2, "temperature": 1.0, "stream": True}):
            with self.assertRaises(openai.BadRequestError) as caught:
                client.completions.create(model=model, **wrong)
            self.assertEqual(caught.exception.body["type"], "invalid_request_error")

    def test_openai_stops(self):
        """Claim: a completion ends before the first of its stops, whole and as a stream, for each choice and prompt; what is none
        changes nothing. Method: every stop of one to three characters that the whole text has."""
        client = openai.OpenAI(base_url=self.url + "v1", api_key="x", max_retries=0)
        model = client.models.list().data[0].id
        prompts = ["translate English to German: How are you?", "translate English to French: Where is the station?"]
        whole = [choice.text for choice in client.completions.create(model=model, prompt=prompts, n=2).choices]
        stops = {whole[2][i:i + n] for n in (1, 2, 3) for i in range(len(whole[2]) - n)}
        for stop in [*sorted(stops)[::3], "\u2603"]:
            cut = [text.partition(stop)[0] for text in whole]
            request = {"model": model, "prompt": prompts, "n": 2, "stop": ["\u2603\u2603", stop]}
            choices = client.completions.create(**request).choices
            self.assertEqual([choice.text for choice in choices], cut)
            self.assertEqual({choice.finish_reason for choice in choices}, {"stop"})
            pieces = [""] * 4
            for event in client.completions.create(**request, stream=True):
                for choice in event.choices:
                    pieces[choice.index] += choice.text
            self.assertEqual(pieces, cut)

    def test_openai_best_of(self):
        """Claim: best_of is a wider search; of samples it gives those with the best scores. Method: one of several samples is the
        best of all of them by the log-probabilities that the reply tells."""
        client = openai.OpenAI(base_url=self.url + "v1", api_key="x", max_retries=0)
        model = client.models.list().data[0].id
        prompt = "translate English to German: Where is the station?"
        best = client.completions.create(model=model, prompt=prompt, best_of=4, temperature=0)
        beams = client.completions.create(model=model, prompt=prompt, n=4, temperature=0)
        self.assertEqual([best.choices[0].text], [beams.choices[0].text])
        sampled = {"model": model, "prompt": prompt, "temperature": 1.0, "seed": 5, "logprobs": 1}
        score = lambda choice: sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)
        every = sorted(client.completions.create(**sampled, n=6).choices, key=score, reverse=True)
        chosen = client.completions.create(**sampled, n=2, best_of=6).choices
        self.assertEqual([choice.text for choice in chosen], [choice.text for choice in every[:2]])
        self.assertEqual([choice.index for choice in chosen], [0, 1])

    def test_openai_not_found(self):
        """Claim: the model can be asked for by name, and what there is not is the client's NotFoundError."""
        client = openai.OpenAI(base_url=self.url + "v1", api_key="x", max_retries=0)
        model = client.models.list().data[0]
        self.assertEqual(client.models.retrieve(model.id), model)
        for ask in (lambda: client.models.retrieve("gpt-4"), lambda: client.embeddings.create(model=model.id, input="a")):
            with self.assertRaises(openai.NotFoundError) as caught:
                ask()
            self.assertEqual(caught.exception.body["type"], "invalid_request_error")

    def test_deepl_without_glossaries(self):
        """Claim: who looks for glossaries finds none, who makes one or sends a document is told at once, in words."""
        client = deepl.DeepLClient("x", server_url=self.url)
        self.assertEqual((client.list_glossaries(), client.list_multilingual_glossaries(), client.get_glossary_languages()), ([], [], []))
        for ask in (lambda: client.create_glossary("a", "EN", "DE", {"a": "b"}),
                    lambda: client.translate_document(b"Hello", io.BytesIO(), target_lang="DE", filename="a.txt")):
            with self.assertRaisesRegex(deepl.DeepLException, "not supported"):
                ask()
        texts = [client.translate_text("Where is\nthe station?", target_lang="DE", split_sentences=how).text
                 for how in (deepl.SplitSentences.ALL, deepl.SplitSentences.NO_NEWLINES)]
        self.assertEqual([text.count("\n") for text in texts], [1, 0])


if __name__ == "__main__":
    unittest.main()
