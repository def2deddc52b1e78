#!/usr/bin/env python3
"""How t5serve starts, and how it says why it does not. Usage: test_startup.py T5SERVE"""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

from server import STOP_S, Server, is_open, reserved_port, wait_until

PROGRAM = sys.argv.pop(1)
TOP = pathlib.Path(__file__).resolve().parents[2]


def run(*flags, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("T5_", "LT_"))}
    return subprocess.run([PROGRAM, *flags], env={**clean, **env}, capture_output=True, text=True, timeout=120)


class Startup(unittest.TestCase):
    def refuses(self, done, code, *words):
        """One line on stderr after the log, with these words."""
        self.assertEqual(done.returncode, code, done.stderr)
        last = done.stderr.strip().split("\n")[-1]
        self.assertTrue(last.startswith("t5serve: "), last)
        for word in words:
            self.assertIn(word, last)

    def test_help_and_version(self):
        """Claim: --help lists the keys, --version the version; both end with 0."""
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        for flag in ("--config FILE", "--port N", "--drain-timeout-ms N", "--metrics"):
            self.assertIn(flag, done.stdout)
        self.assertRegex(run("--version").stdout, r"^t5serve \d+\.\d+")

    def test_print_config(self):
        """Claim: --print-config shows the values in force and their origins, and starts nothing."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"max_running_rows": 96, "host": "::1", "port": 1}')
            file.flush()
            done = run("--print-config", "--port=7", T5_CONFIG=file.name, T5_HOST="::", LT_PORT="6")
            config = json.loads(done.stdout)
            self.assertEqual((done.returncode, config["port"], config["host"], config["max_running_rows"]), (0, 7, "::", 96))
            origins = config["_origin"]
            self.assertEqual((origins["port"], origins["host"], origins["threads"]),
                             ("flag --port", "environment T5_HOST", "default"))
            self.assertEqual(origins["max_running_rows"], "file " + file.name)

    def test_settings_are_documented(self):
        """Claim: docs/operations.md has a row for each key, and for no other."""
        rows = re.findall(r"^\| `(\w+)` \|", (TOP / "docs/operations.md").read_text(encoding="utf-8"), re.M)
        keys = [key for key in json.loads(run("--print-config").stdout) if not key.startswith("_")]
        self.assertEqual([row for row in rows if not row.startswith("t5serve_")], keys)

    def test_usage_errors(self):
        """Claim: a bad setting ends with 2 and one line that names it."""
        self.refuses(run("--prot", "1"), 2, "--prot", "did you mean port?")
        self.refuses(run(T5_PORT="x"), 2, "environment T5_PORT", "0 to 65535")
        self.refuses(run("--config", "/nonexistent.json"), 2, "config (flag --config): /nonexistent.json")
        self.refuses(run(T5_CONFIG="/"), 2, "config (environment T5_CONFIG): /: not a regular file")
        self.refuses(run("--cors-origin", "https://example.org/"), 2, "cors_origin", "slash")
        self.refuses(run("--api-keys", "/nonexistent.json"), 1, "api_keys: /nonexistent.json")
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8-sig") as file:
            file.write('{"port": 99999}')  # behind the mark that editors on Windows write
            file.flush()
            self.refuses(run("--config", file.name), 2, "port", "99999 is not within")
        self.refuses(run("--port", "0", "--device", "abacus"), 2, "abacus")
        self.refuses(run(T5_MAX_RUNNING_ROWS="31"), 2, "max_running_rows", "environment T5_MAX_RUNNING_ROWS", "32 to 4096, or 0")
        self.refuses(run("--max-new-tokens", "4096"), 2, "flag --max-new-tokens", "0 to 4095")

    def test_failures(self):
        """Claim: what the machine refuses ends with 1 and one line that says what to do."""
        with tempfile.TemporaryDirectory() as folder:
            self.refuses(run("--port", "0", "--model", folder), 1, folder)
            self.refuses(run("--port", "0", "--model", folder + "/none"), 1, folder + "/none")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            self.refuses(run("--port", port), 1, f"port {port}", "taken", "--port")
            self.refuses(run("--port", port, "--model", "no_such_model"), 1, "taken")  # before models are opened
        self.refuses(run("--host", "no.such.host.invalid", "--port", "0"), 1, "no.such.host.invalid")

    def test_two_at_once(self):
        """Claim: of two servers that are started at once on a port one serves, and the other says who has it. Method: both bind it
        before either listens, or one is late; a socket that does not listen keeps the port from everybody else."""
        with socket.socket() as keeper:
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(("127.0.0.1", 0))
            command = [PROGRAM, "--port", str(keeper.getsockname()[1])]
            pair = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
            try:
                wait_until(lambda: any(process.poll() is not None for process in pair))
                loser, winner = sorted(pair, key=lambda process: process.poll() is None)
                last = loser.communicate(timeout=60)[1].strip().split("\n")[-1]
                self.assertEqual(loser.returncode, 1, last)
                self.assertRegex(last, r"^t5serve: .*127\.0\.0\.1.* is taken: stop the other server or choose another --port$")
                winner.terminate()
                self.assertEqual((winner.wait(60), " is taken" in winner.stderr.read()), (0, False))
            finally:
                for process in pair:
                    process.kill()
                    process.wait()
                    process.stderr.close()

    def test_no_gpu(self):
        """Claim: without a usable GPU the server says why and that it uses the CPU, and works. Method: a plug-in that is missing,
        and one that is no library."""
        with tempfile.NamedTemporaryFile() as empty:
            for plugin, why in (("/no-such-plugin", "no such file"), (empty.name, "file too short")):
                with Server(PROGRAM, "--device", "auto", env={"T5_CUDA_PLUGIN": plugin}) as server:
                    self.assertRegex(server.log_text(), f'text="no GPU: .*{plugin}.*{why}, using the CPU"')
                    self.assertEqual(server.translate("How are you?").status, 200)

    def test_target_tokens_are_those_of_the_translation(self):
        """Claim: max_new_tokens is the longest translation that can be asked for. Method: the limit, and one more."""
        with Server(PROGRAM, "--max-new-tokens", "6") as server:
            self.assertEqual(server.translate("Hello.", max_new_tokens=6).status, 200)
            self.assertIn("at most 6 are possible", server.translate("Hello.", max_new_tokens=7).error)

    def test_model_without_languages(self):
        """Claim: a model whose languages are unknown is warned about, with what to do. Method: a folder that says none."""
        with Server(PROGRAM, "--model", str(TOP / "tests/fixtures/byt5")) as server:
            self.assertRegex(server.log_text(), r"(?m)^.*warn.* no_languages .*t5serve\.json")
        with Server(PROGRAM) as server:
            self.assertNotIn("no_languages", server.log_text())

    def test_page_languages(self):
        """Claim: a language of the page that no model has is warned about; LibreTranslate's own words are not."""
        with Server(PROGRAM, "--frontend-language-source", "xx", "--frontend-language-target", "DE") as server:
            self.assertIn('warn page_language key=frontend_language_source value="xx"', server.log_text())
            self.assertNotIn("frontend_language_target", server.log_text())
        with Server(PROGRAM, env={"LT_FRONTEND_LANGUAGE_SOURCE": "auto", "LT_FRONTEND_LANGUAGE_TARGET": "locale"}) as server:
            self.assertNotIn(" warn page_language", server.log_text())

    def test_names_in_the_log(self):
        """Claim: a name with spaces is one value of its line. Method: the bundled model in a folder of such a name, as JSON."""
        with tempfile.TemporaryDirectory() as top:
            folder = pathlib.Path(top, 'my "new" model')
            shutil.copytree(TOP / "models/t5-tatoeba", folder)
            profile = json.loads((folder / "t5serve.json").read_text())
            del profile["name"]
            (folder / "t5serve.json").write_text(json.dumps(profile))
            with Server(PROGRAM, "--model", str(folder), "--log-format", "json", "--shortlist") as server:
                events = {event["event"]: event for event in map(json.loads, server.log_text().splitlines())}
        for name in ("model", "listening", "shortlist"):
            self.assertEqual(events[name].get("name", events[name].get("model")), folder.name, events[name])
        self.assertEqual(events["listening"]["languages"], events["model"]["languages"])

    def test_hosts(self):
        """Claim: * listens on every address; a log line tells the real port."""
        with Server(PROGRAM, "--host", "*") as server:
            self.assertEqual(server.host, "localhost")
            server.host = "127.0.0.1"
            self.assertEqual(server.get("/health").status, 200)

    def test_cors_can_be_narrowed_or_closed(self):
        """Claim: cors_origin is what pages see, and empty means no header."""
        for origin in ("https://a.example", ""):
            with Server(PROGRAM, "--cors-origin", origin) as server:
                headers = server.get("/health").headers
                self.assertEqual(headers.get("access-control-allow-origin", ""), origin)

    def test_port_is_free_after_exit(self):
        """Claim: a restart can take the same port at once. Method: start twice with connections left behind."""
        with reserved_port() as port:
            with Server(PROGRAM, "--port", str(port)) as server:
                server.connect().sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            with Server(PROGRAM, "--port", str(port)) as server:
                self.assertEqual(server.port, port)

    def test_full_disk_under_the_log(self):
        """Claim: a log that cannot be written does not stop the service. Method: stderr to /dev/full, and to a file that has more
        bytes than a file may have (ThreadSanitizer writes one of its own), a fixed port."""
        with tempfile.NamedTemporaryFile() as large:
            large.truncate(64 << 20)
            for path, limit in (("/dev/full", ""), (large.name, "ulimit -f 20000;")):
                self.serves_without_log(path, limit)

    def serves_without_log(self, path, limit):
        with reserved_port() as port, open(path, "a") as log:
            process = subprocess.Popen(["sh", "-c", f'{limit} exec "$@"', "sh", PROGRAM, "--port", str(port)], stderr=log)
            try:
                server = Server(PROGRAM)
                server.host, server.port = "127.0.0.1", port
                wait_until(lambda: process.poll() is not None or is_open(server))
                self.assertEqual(server.get("/health").status, 200)
                process.terminate()
                self.assertEqual(process.wait(STOP_S), 0)
            finally:
                process.kill()


unittest.main(verbosity=2, warnings="ignore")
