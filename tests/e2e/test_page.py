#!/usr/bin/env python3
"""The pages at / and /docs, used as a person would, in headless Chromium through Playwright. Usage: test_page.py T5SERVE [FOLDER]
With FOLDER, screenshots are written there."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from playwright.sync_api import expect, sync_playwright

from server import Server, WAIT_S

PROGRAM = sys.argv.pop(1)
SHOTS = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 and os.path.isdir(sys.argv[1]) else None
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ONE_WAY = [{"code": "en", "name": "English", "targets": ["en", "de"]}, {"code": "de", "name": "German", "targets": ["de"]}]
expect.set_options(timeout=WAIT_S * 1000)
WIDE, PHONE = {"width": 1000, "height": 640}, {"width": 375, "height": 740}


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM).__enter__()
        cls.url = f"http://127.0.0.1:{cls.server.port}/"
        cls.playwright = sync_playwright().start()
        cls.browser = cls.playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.playwright.stop()
        cls.server.__exit__(None, None, None)

    def setUp(self):
        self.context = self.browser.new_context(viewport=WIDE)
        self.context.set_default_timeout(WAIT_S * 1000)
        self.page = self.context.new_page()
        self.problems, self.requests = [], []
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.problems.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))

    def tearDown(self):
        self.page.unroute_all(behavior="ignoreErrors")
        self.context.close()
        self.assertEqual(self.problems, [])
        self.assertEqual([url for url in self.requests if not url.startswith((self.url, "blob:"))], [])

    def open(self, query=""):
        self.page.goto(self.url + query)
        expect(self.page.locator("#target")).to_be_enabled()

    def until(self, condition):
        """Waits; what the page does meanwhile reaches our functions."""
        end = time.monotonic() + WAIT_S
        while not condition():
            self.assertLess(time.monotonic(), end)
            self.page.wait_for_timeout(20)

    def shoot(self, name):
        if SHOTS is not None:
            self.page.screenshot(path=SHOTS / f"{name}.png")

    def test_translates_while_typing(self):
        """Claim: a translation comes without a click, with the language that was detected and other translations."""
        self.open()
        self.page.keyboard.type("Where is the station?")
        expect(self.page.locator("#translation")).to_have_text(self.server.translate("Where is the station?", alternatives=2).json()["translatedText"])
        expect(self.page.locator("#detected")).to_have_text(re.compile(r"^Detected: English \(\d+ %\)$"))
        self.assertGreaterEqual(self.page.locator("#alternatives li").count(), 1)
        expect(self.page.locator("#count")).to_have_text("21 characters")
        self.shoot("page")

    def test_few_alternatives(self):
        """Claim: the page asks for no more alternatives than the server gives. Method: limits of 0 and 1."""
        for limit in (0, 1):
            with Server(PROGRAM, "--alternatives-limit", str(limit)) as server:
                self.page.goto(f"http://127.0.0.1:{server.port}/?source=en&target=de&q=Hello")
                expect(self.page.locator("#translation")).not_to_have_text("")
                self.assertLessEqual(self.page.locator("#alternatives li").count(), limit)
        self.requests = []

    def test_key(self):
        """Claim: where the server wants a key the page asks for it, sends it, keeps it, and never shows it; elsewhere there is no
        field."""
        self.open()
        expect(self.page.locator("#key")).to_be_hidden()
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "keys.json")
            key = subprocess.run([PROGRAM, "keys", "add", "--file", file], capture_output=True, text=True, check=True).stdout.strip()
            with Server(PROGRAM, "--api-keys", file, "--require-api-key") as server:
                url = f"http://127.0.0.1:{server.port}/?source=en&target=de&q=Hello"
                self.page.goto(url)
                expect(self.page.locator("#state")).to_have_text("This server needs an API key.")
                self.page.locator("#key").fill(key)
                self.page.locator("#key").press("Enter")
                expect(self.page.locator("#translation")).not_to_have_text("")
                self.shoot("key")
                self.page.goto(url)
                expect(self.page.locator("#translation")).not_to_have_text("")
                self.assertNotIn(key, self.page.locator("#curl").text_content())
        self.requests = []

    def test_targets_of_a_detected_language(self):
        """Claim: while the language is to be detected the targets are those that some other language has: no text can be
        translated into a language that only leads elsewhere. Method: a server that can only one way."""
        self.page.route("**/languages", lambda route: route.fulfill(json=ONE_WAY))
        self.open("?source=auto")
        expect(self.page.locator("#target option")).to_have_text(["German"])

    def test_swap(self):
        """Claim: swapping exchanges languages and texts where the model can, and says so where it cannot. Method: a server that
        can only one way."""
        self.page.route("**/languages", lambda route: route.fulfill(json=ONE_WAY))
        self.open("?source=en&target=de&q=Hello")
        expect(self.page.locator("#translation")).not_to_have_text("")
        self.page.locator("#swap").click()
        expect(self.page.locator("#state")).to_have_text("There is no translation from German to English.")
        expect(self.page.locator("#source")).to_have_value("en")

    def test_swap_there_and_back(self):
        """Claim: swapping exchanges languages and texts, by button and key, also for a language that was detected; twice is as
        before. Method: a server that can both ways and turns texts around."""
        both = [{"code": code, "name": name, "targets": ["en", "de"]} for code, name in (("en", "English"), ("de", "German"))]
        self.page.route("**/languages", lambda route: route.fulfill(json=both))
        self.page.route("**/translate", lambda route: route.fulfill(json={
            "translatedText": json.loads(route.request.post_data)["q"][::-1], "alternatives": [],
            "detectedLanguage": {"confidence": 90, "language": "en"}}))
        self.open("?source=auto&target=de&q=abc")
        expect(self.page.locator("#translation")).to_have_text("cba")
        self.page.locator("#swap").click()
        expect(self.page.locator("#translation")).to_have_text("abc")
        state = [self.page.locator(f"#{name}").input_value() for name in ("source", "target", "text")]
        self.assertEqual(state, ["de", "en", "cba"])
        self.page.keyboard.press("Alt+S")
        expect(self.page.locator("#translation")).to_have_text("cba")
        state = [self.page.locator(f"#{name}").input_value() for name in ("source", "target", "text")]
        self.assertEqual(state, ["en", "de", "abc"])

    def test_screen_reader(self):
        """Claim: what is on the page has the role and the name by which a screen reader tells it, in this order; news are announced.
        Method: the browser's own tree of what is accessible."""
        self.open("?source=auto&target=de&q=Hello")
        expect(self.page.locator("#copy")).to_be_enabled()
        expect(self.page.locator("body")).to_match_aria_snapshot("""
            - banner:
              - heading "Translate" [level=1]
              - button "Switch between light and dark"
            - main:
              - combobox "From"
              - button "Swap the languages"
              - combobox "To"
              - region "Text":
                - heading "Text" [level=2]
                - textbox "Text to translate"
                - paragraph:
                  - status: /Detected/
                  - text: /5 characters/
                - button "Open file"
                - button "Clear"
              - region "Translation":
                - heading "Translation" [level=2]
                - status "Translation"
                - paragraph:
                  - status
                - button "Save"
                - button "Copy"
              - region "Alternatives":
                - heading "Alternatives" [level=2]
                - list:
                  - listitem
              - group: The same with curl
        """)
        self.assertEqual(self.page.locator("#translation").get_attribute("lang"), "de")

    def test_contrast(self):
        """Claim: every text has a contrast of 4.5 and more against what is behind it (WCAG 2.1, AA), light and dark. Method: the
        colours that the browser computed."""
        self.page.route("**/translate", lambda route: route.fulfill(status=503, json={"error": "the queue is full"}))
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.open("?source=en&target=de&q=Hello")
            expect(self.page.locator("#state")).to_have_text("the queue is full")
            self.page.locator("summary").click()
            weak = self.page.evaluate("""() => {
                const parse = (c) => c.match(/[\\d.]+/g).map(Number);
                const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
                const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                return [...document.querySelectorAll('body *')].filter((e) => !e.disabled && e.checkVisibility() &&
                    [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
                    .map((e) => [e.id || e.tagName, ratio(light(parse(getComputedStyle(e).color)), light(behind(e)))])
                    .filter(([, r]) => r < 4.5);
            }""")
            self.assertEqual(weak, [], scheme)
        self.problems = [text for text in self.problems if "503" not in text]

    def test_only_the_newest_text_counts(self):
        """Claim: typing on cancels the request before. Method: hold every request; the first one must be given up."""
        held, given_up = [], []
        self.page.route("**/translate", lambda route: held.append(route))
        self.page.on("requestfailed", lambda r: given_up.append(json.loads(r.post_data)["q"]))
        self.open("?source=en&target=de")
        self.page.locator("#text").fill("one")
        self.until(lambda: len(held) == 1)
        self.page.locator("#text").fill("one two")
        self.until(lambda: len(held) == 2 and given_up)
        self.assertEqual(given_up, ["one"])
        held[1].fulfill(json={"translatedText": "eins zwei", "alternatives": []})
        expect(self.page.locator("#translation")).to_have_text("eins zwei")
        self.problems = [text for text in self.problems if "ERR_ABORTED" not in text]

    def test_text_stays_text(self):
        """Claim: markup in a text or in an answer never becomes markup of the page."""
        evil = "<img src=x onerror=alert(1)>"
        self.page.route("**/translate", lambda route: route.fulfill(
            json={"translatedText": evil, "alternatives": [evil], "detectedLanguage": {"confidence": 90, "language": evil}}))
        self.open()
        self.page.locator("#text").fill(evil + "'")
        expect(self.page.locator("#translation")).to_have_text(evil)
        expect(self.page.locator("#alternatives li")).to_have_text(evil)
        self.assertEqual(self.page.locator("main img").count(), 0)
        self.assertIn("'\\''", self.page.locator("#curl").text_content())

    def test_remarks(self):
        """Claim: the page says when a translation went through another language, and when it was cut short."""
        answer = {"translatedText": "a", "alternatives": []}
        self.page.route("**/translate", lambda route: route.fulfill(json=answer))
        self.open("?source=en&target=de&q=Hello")
        for extra, text in (({"pivot": "en"}, "Through English"), ({}, ""), ({"finish_reason": "length"}, re.compile("cut short"))):
            answer.clear()
            answer.update({"translatedText": str(text), "alternatives": [], **extra})
            self.page.locator("#text").press("Control+Enter")
            expect(self.page.locator("#translation")).to_have_text(str(text))
            expect(self.page.locator("#state")).to_have_text(text)

    def test_error_is_shown(self):
        """Claim: an error of the server stands beside the text, in its words."""
        self.page.route("**/translate", lambda route: route.fulfill(status=503, json={"error": "the queue is full"}))
        self.open("?source=en&target=de&q=Hello")
        expect(self.page.locator("#state")).to_have_text("the queue is full")
        self.problems = [text for text in self.problems if "503" not in text]

    def test_error_of_a_proxy(self):
        """Claim: what answers without JSON, a proxy in between, is told by its status; the translation before stays pale, as it is
        not that of the text, and goes with the text. Method: an answer, then a page of HTML with status 502."""
        answers = [{"json": {"translatedText": "eins", "alternatives": []}}, {"status": 502, "body": "<html>Bad Gateway</html>"}]
        self.page.route("**/translate", lambda route: route.fulfill(**answers.pop(0)))
        self.open("?source=en&target=de&q=one")
        translation = self.page.locator("#translation")
        expect(translation).to_have_text("eins")
        self.page.locator("#text").fill("two")
        expect(self.page.locator("#state")).to_have_text("status 502")
        expect(translation).to_have_class("stale")
        self.page.locator("#clear").click()
        expect(translation).to_have_text("")
        expect(translation).not_to_have_class("stale")
        self.problems = [text for text in self.problems if "502" not in text]

    def test_file_copy_and_curl(self):
        """Claim: a text file can be opened, the translation copied, and the command shown is what the page sends."""
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.open("?source=en&target=fr")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "a.txt"
            path.write_text("Good morning.\n\nI'm tired.", encoding="utf-8")
            self.page.locator("#file").set_input_files(path)
            expect(self.page.locator("#copy")).to_be_enabled()
        text = self.page.locator("#translation").text_content()
        self.assertEqual(text.count("\n"), 2)
        self.page.evaluate("""() => {
            window.said = [];  // for 1.5 s, which a busy machine may miss
            new MutationObserver(() => window.said.push(document.getElementById('copy').textContent))
                .observe(document.getElementById('copy'), { childList: true });
        }""")
        self.page.keyboard.press("Alt+C")
        self.until(lambda: "Copied" in self.page.evaluate("window.said"))
        self.assertEqual(self.page.evaluate("navigator.clipboard.readText()"), text)
        self.page.locator("summary").click()
        self.assertIn("I'\\''m tired.", self.page.locator("#curl").text_content())

    def test_dropped_file(self):
        """Claim: a text file that is dropped on the page is its text; another kind is refused by name."""
        self.open("?source=en&target=de")
        for name, kind in (("a.txt", "text/plain"), ("b.pdf", "application/pdf")):
            self.page.evaluate("""([name, kind]) => {
                const data = new DataTransfer();
                data.items.add(new File(['Thank you.'], name, { type: kind }));
                document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));
            }""", [name, kind])
            if kind == "text/plain":
                expect(self.page.locator("#text")).to_have_value("Thank you.")
                expect(self.page.locator("#translation")).not_to_have_text("")
        expect(self.page.locator("#state")).to_have_text("b.pdf is not a text file.")

    def test_keyboard_alone(self):
        """Claim: everything can be reached with Tab, and every control has a name."""
        self.open("?source=en&target=de&q=Hello")
        expect(self.page.locator("#copy")).to_be_enabled()
        reached = set()
        self.page.locator("#text").focus()
        for _ in range(20):
            self.page.keyboard.press("Tab")
            reached.add(self.page.evaluate("document.activeElement.id"))
        self.assertLessEqual({"theme", "source", "target", "swap", "file", "clear", "translation", "copy"}, reached)
        unnamed = self.page.evaluate("""[...document.querySelectorAll('button, select, textarea, input')].filter((e) =>
            !(e.ariaLabel || e.textContent.trim() || e.closest('label')?.textContent.trim())).map((e) => e.outerHTML)""")
        self.assertEqual(unnamed, [])

    def test_dark_and_narrow(self):
        """Claim: dark mode follows the system and the button; a phone's width needs no scrolling sideways."""
        self.page.emulate_media(color_scheme="dark")
        self.page.set_viewport_size(PHONE)
        self.open("?source=en&target=de&q=" + "Where is the station%3F+" * 5)
        expect(self.page.locator("#copy")).to_be_enabled()
        back = "getComputedStyle(document.body).backgroundColor"
        dark = self.page.evaluate(back)
        self.assertEqual(self.page.evaluate("document.documentElement.scrollWidth"), PHONE["width"])
        self.shoot("page-phone-dark")
        self.page.locator("#theme").click()
        self.assertNotEqual(self.page.evaluate(back), dark)
        self.page.reload()
        self.assertNotEqual(self.page.evaluate(back), dark)
        self.page.goto(self.url + "docs")
        self.assertNotEqual(self.page.evaluate(back), dark)

    def test_docs(self):
        """Claim: /docs shows each endpoint of the specification with its fields, those of JSON bodies too; a phone's width needs
        no scrolling sideways; the way back leads to the page. Method: against /spec."""
        spec = self.server.get("/spec").json()
        wanted = [f"{method.upper()} {path}" for path, methods in spec["paths"].items() for method in methods]
        self.page.set_viewport_size(PHONE)
        self.page.goto(self.url + "docs")
        expect(self.page.locator("summary code")).to_have_count(len(wanted))
        shown = self.page.locator("summary code").all_text_contents()
        self.assertEqual((shown[0], sorted(shown)), ("POST /translate", sorted(wanted)))
        for path, method in (("/translate", "post"), ("/generate", "post")):
            endpoint = self.page.locator("details").nth(shown.index(f"{method.upper()} {path}"))
            endpoint.locator("summary").click()
            fields = [f["name"] for f in spec["paths"][path][method]["parameters"] if f["in"] != "body"]
            fields += [] if fields else list(spec["definitions"]["generate_request"]["properties"])
            expect(endpoint.locator("table").first.locator("td:first-child")).to_have_text(fields)
            expect(endpoint.locator("h3")).to_have_count(len(spec["paths"][path][method]["responses"]))
        self.assertEqual(self.page.evaluate("document.documentElement.scrollWidth"), PHONE["width"])
        self.shoot("docs-phone")
        self.page.set_viewport_size(WIDE)
        self.shoot("docs")
        self.page.get_by_role("link", name="Translate").click()
        expect(self.page.locator("#target")).to_be_enabled()


if __name__ == "__main__":
    unittest.main()
