#!/usr/bin/env python3
"""API keys and limits, over HTTP. Usage: test_access.py T5SERVE T5SERVE_FAKE"""
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

from server import Server

FAKE = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)


def keys(*words):
    return subprocess.run([PROGRAM, "keys", *words], capture_output=True, text=True, check=False)


def limit_files(n_bytes):
    """Longer files fail as on a full disk, with EFBIG instead of a signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


class Access(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.folder.name, "keys.json")

    def tearDown(self):
        self.folder.cleanup()

    def add(self, *flags):
        done = keys("add", "--file", self.file, *flags)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.strip()

    def ask(self, server, path="/translate", headers=(), **fields):
        default = {"text": ["Hello"], "target_lang": "DE"} if path.startswith("/v2") else {"q": "Hello", "source": "en", "target": "de"}
        return server.post(path, json.dumps({**default, **fields}).encode(), headers=headers)

    def test_keys_are_needed(self):
        """Claim: who has no key, or a wrong one, gets the status that the clients of each API understand; the key may come
        in the field, or in a header."""
        key = self.add("--name", "somebody")
        with Server(FAKE, "--api-keys", self.file, "--require-api-key") as server:
            reply = self.ask(server)
            self.assertEqual((reply.status, reply.error), (400, "Please contact the server operator to get an API key"))
            reply = self.ask(server, api_key="t5-wrong")
            self.assertEqual((reply.status, reply.error), (403, "Invalid API key"))
            self.assertEqual(self.ask(server, api_key=key).status, 200)
            self.assertEqual(self.ask(server, headers=[f"Authorization: Bearer {key}"]).status, 200)
            self.assertEqual(self.ask(server, "/detect").status, 400)
            self.assertEqual(self.ask(server, "/detect", api_key=key).status, 200)
            reply = self.ask(server, "/v2/translate")
            self.assertEqual((reply.status, "message" in reply.json()), (403, True))
            self.assertEqual(self.ask(server, "/v2/translate", headers=[f"Authorization: DeepL-Auth-Key {key}"]).status, 200)
            self.assertEqual(self.ask(server, "/v2/translate", auth_key=key).status, 200)
            settings = server.get("/frontend/settings").json()
            self.assertEqual((settings["apiKeys"], settings["keyRequired"]), (True, True))
            self.assertEqual(server.get("/languages").status, 200)

    def test_limits_of_a_key(self):
        """Claim: a key's limits take the place of the server's, in both directions."""
        key = self.add("--req-limit", "2", "--char-limit", "50")
        with Server(FAKE, "--api-keys", self.file, "--char-limit", "10") as server:
            self.assertIn("exceeds text limit (10)", self.ask(server, q="a" * 11).error)
            self.assertEqual(self.ask(server, q="a" * 11, api_key=key).status, 200)
            self.assertIn("exceeds text limit (50)", self.ask(server, q="a" * 51, api_key=key).error)
            reply = self.ask(server, api_key=key)
            self.assertEqual((reply.status, reply.error), (429, "Slowdown: 2 per 1 minute"))
            self.assertIn(int(reply.headers["retry-after"]), range(1, 61))
            self.assertEqual(self.ask(server).status, 200)

    def test_nobody_without_a_key(self):
        """Claim: req_limit 0 refuses who has no key, as LibreTranslate has it, and says nothing of keys: one without a limit of
        its own has none, one with a limit keeps it."""
        free, limited = self.add(), self.add("--req-limit", "1")
        with Server(FAKE, "--api-keys", self.file, env={"LT_REQ_LIMIT": "0"}) as server:
            reply = self.ask(server)
            self.assertEqual((reply.status, reply.error), (400, "Please contact the server operator to get an API key"))
            self.assertEqual([self.ask(server, q=["a", "b"], api_key=free).status for _ in range(2)], [200, 200])
            self.assertEqual([self.ask(server, api_key=limited).status for _ in range(2)], [200, 429])

    def test_anonymous_limit(self):
        """Claim: each address has its own account, a text costs one, and only a trusted proxy may speak for others."""
        forwarded = ["X-Forwarded-For: 203.0.113.5"]
        with Server(FAKE, env={"LT_REQ_LIMIT": "3"}) as server:
            self.assertEqual(self.ask(server, q=["a", "b"]).status, 200)
            self.assertEqual(self.ask(server, q=["a", "b"]).status, 429)
            self.assertEqual(self.ask(server, headers=forwarded).status, 200)
            self.assertEqual(self.ask(server, headers=forwarded).status, 429)
            self.assertEqual(self.ask(server, "/v2/translate").status, 429)
            self.assertEqual(server.get("/health").status, 200)
        with Server(FAKE, "--req-limit", "1", "--trusted-proxies", "127.0.0.0/8,::1") as server:
            self.assertEqual(self.ask(server, headers=forwarded).status, 200)
            self.assertEqual(self.ask(server, headers=forwarded).status, 429)
            self.assertEqual(self.ask(server, headers=["X-Forwarded-For: 203.0.113.6"]).status, 200)

    def test_forwarded_lines(self):
        """Claim: a client behind a proxy that adds a line of its own (as HAProxy does), not a word to the client's, has one
        account whatever it claims. Method: claims before the proxy's line; a proxy more; claims of 4 kB."""
        proxy = "X-Forwarded-For: 203.0.113.5"
        with Server(FAKE, "--req-limit", "1", "--trusted-proxies", "127.0.0.0/8,10.0.0.0/8,::1") as server:
            self.assertEqual(self.ask(server, headers=["X-Forwarded-For: 1.1.1.1", proxy]).status, 200)
            self.assertEqual(self.ask(server, headers=["X-Forwarded-For: 2.2.2.2", proxy]).status, 429)
            self.assertEqual(self.ask(server, headers=["x-forwarded-for: 3.3.3.3", proxy, "X-Forwarded-For: 10.0.0.1"]).status, 429)
            self.assertEqual(self.ask(server, headers=["X-Forwarded-For: 4.4.4.4" + ", 4.4.4.4" * 500, proxy]).status, 429)
            self.assertEqual(self.ask(server, headers=["X-Forwarded-For: " + "5.5.5.5, " * 500 + "203.0.113.5"]).status, 429)
            self.assertEqual(self.ask(server, headers=["X-Forwarded-For: 203.0.113.6"]).status, 200)

    def test_settings_that_cannot_be(self):
        """Claim: a missing or broken file of keys, and a need of keys without any, end the start by name, and do not wait for the
        models. Method: a model that takes two minutes to open."""
        for flags, wanted in ((["--api-keys", self.file], self.file), (["--require-api-key"], "require_api_key"),
                              (["--trusted-proxies", "here"], "trusted_proxies"), (["--url-prefix", "a b"], "url_prefix")):
            done = subprocess.run([FAKE, "--port", "0", "--model", "sleep=120000", *flags], capture_output=True, text=True,
                                  check=False, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(wanted, done.stderr)

    def test_file_keeps_its_readers(self):
        """Claim: a new file of keys is for its owner only; who may read it, and whose it is, stays as people set it: a service
        with a user of its own goes on reading it. Method: mode and, as root, owner before and after a change."""
        self.add()
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)
        os.chmod(self.file, 0o640)
        if os.geteuid() == 0:
            os.chown(self.file, 1234, 5678)
        before = os.stat(self.file)
        self.add()
        after = os.stat(self.file)
        self.assertEqual((after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid))

    def test_file_behind_a_link(self):
        """Claim: a link to the file stays one; a pipe, for which a device stands too, is refused and stays what it is. (The keys
        took the place of either.)"""
        link, pipe = os.path.join(self.folder.name, "link"), os.path.join(self.folder.name, "pipe")
        self.add()
        os.symlink("keys.json", link)
        os.mkfifo(pipe)
        self.assertEqual(keys("add", "--file", link).returncode, 0)
        self.assertTrue(os.path.islink(link))
        self.assertEqual(len(keys("list", "--file", self.file).stdout.splitlines()), 3)
        done = keys("add", "--file", pipe)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("pipe: not a regular file", done.stderr)
        self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode))

    def test_commands_at_once(self):
        """Claim: of commands that change a file at the same time each has its effect. Method: twenty keys added at once."""
        adds = [subprocess.Popen([PROGRAM, "keys", "add", "--file", self.file], stdout=subprocess.DEVNULL) for _ in range(20)]
        self.assertEqual([add.wait(300) for add in adds], [0] * 20)
        self.assertEqual(len(keys("list", "--file", self.file).stdout.splitlines()), 21)

    def test_key_that_nobody_can_read(self):
        """Claim: a key that cannot be shown is not added, and what cannot be printed is a failure. Method: a full disk, and a
        closed stdout."""
        first = self.add()
        for words in (("add", "--file", self.file), ("list", "--file", self.file), ("--help",)):
            for redirection in (">/dev/full", ">&-"):
                command = ["sh", "-c", f'exec "$@" {redirection}', "sh", PROGRAM, "keys", *words]
                done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
                self.assertEqual(done.returncode, 1, (words, redirection))
                self.assertRegex(done.stderr, "^t5serve: stdout: (No space left on device|Bad file descriptor)\n$")
        self.assertEqual(len(keys("list", "--file", self.file).stdout.splitlines()), 2, first)

    def test_full_disk_under_the_keys(self):
        """Claim: a file of keys that the disk has no room for stays as it was, and the cause is told. Method: a limit on the
        size of files, which lets a part be written."""
        for _ in range(5):
            self.add("--name", "x" * 60)
        with open(self.file, "rb") as file:
            before = file.read()
        done = subprocess.run([PROGRAM, "keys", "add", "--file", self.file], capture_output=True, text=True, check=False,
                              preexec_fn=lambda: limit_files(len(before) + 20))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("keys.json: File too large", done.stderr)
        with open(self.file, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_command(self):
        """Claim: list shows what was added, remove takes it away, mistakes are told with exit code 2."""
        self.add("--name", "first")
        listed = keys("list", "--file", self.file).stdout.splitlines()
        self.assertEqual(len(listed), 2)
        self.assertTrue(listed[1].endswith("first"))
        self.assertEqual(keys("remove", "--file", self.file, listed[1].split()[0]).returncode, 0)
        self.assertEqual(len(keys("list", "--file", self.file).stdout.splitlines()), 1)
        self.assertEqual(keys("remove", "--file", self.file, "00000000").returncode, 2)
        self.assertEqual(keys("frobnicate", "--file", self.file).returncode, 2)
        for words in ((), ("frobnicate",), ("--file", self.file)):
            self.assertIn("add, list or remove", keys(*words).stderr)
        for words in (("--help",), ("add", "--help"), ("list", "--file", self.file, "-h")):
            done = keys(*words)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            self.assertIn("usage: t5serve keys add", done.stdout)
        done = keys("add", "--file=" + self.file, "--name=second=2", "--req-limit=7")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(keys("list", "--file=" + self.file).stdout, r"(?m) 7 +-1  second=2$")
        for words, wanted in ((("weblate",), "unexpected argument 'weblate'"), (("--file",), "--file: needs a value"), (("--fil=x",), "unknown flag --fil"),
                              (("--req-limit=many",), "--req-limit: 'many' is not a number")):
            done = keys("add", "--file", self.file, *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(wanted, done.stderr)
        self.assertIn("keys add", subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    unittest.main()
