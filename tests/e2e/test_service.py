#!/usr/bin/env python3
"""What a supervisor and a machine do: reload, notify, watchdog, socket activation, health checks, jumps of the clock. Method: the test plays systemd, with a
socket for the notices and a listening socket of its own. Usage: test_service.py T5SERVE_FAKE"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from server import STOP_S, Server, reserved_port, wait_until

PROGRAM = sys.argv.pop(1)
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
PROGRAM_BYTES = pathlib.Path(PROGRAM).read_bytes()
UNITS = pathlib.Path(__file__).resolve().parents[2] / "packaging/systemd"


class Manager:
    """The other end of $NOTIFY_SOCKET."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(0.05)
        self.notices = []
        return self

    def __exit__(self, kind, value, trace):
        self.sock.close()
        self.folder.cleanup()

    def read(self):
        try:
            while True:
                self.notices.append((time.monotonic(), self.sock.recv(4096).decode()))
        except socket.timeout:
            return [text for _, text in self.notices]

    def fed(self):
        """When the watchdog was."""
        self.read()
        return [when for when, text in self.notices if text == "WATCHDOG=1"]

    def has(self, words):
        return any(words in text for text in self.read())


class Reload(unittest.TestCase):
    def setUp(self):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")

    def write(self, text):
        self.file.seek(0)
        self.file.truncate()
        self.file.write(text if isinstance(text, str) else json.dumps(text))
        self.file.flush()

    def hang_up(self, server, words):
        """SIGHUP; the new line of the log with these words."""
        n = len(server.log_lines(words))
        server.process.send_signal(signal.SIGHUP)
        return server.wait_for_log(words, n + 1)[-1]

    def test_limits_change(self):
        """Claim: SIGHUP reads the file again, what can change does, the rest is named. Method: each kind of setting, before and
        after; flags still win."""
        self.write({"char_limit": 3, "port": 0})
        with Server(PROGRAM, "--config", self.file.name, "--alternatives-limit", "1") as server:
            self.assertEqual(server.translate("abcd").status, 400)
            self.assertEqual(server.get("/metrics").status, 404)
            self.write({"char_limit": 10, "metrics": True, "request_timeout_ms": 1000, "max_request_bytes": 200,
                        "http_threads": 5, "alternatives_limit": 7, "req_limit": 6})
            line = self.hang_up(server, " reloaded ")
            self.assertIn('changed="request_timeout_ms,req_limit,char_limit,max_request_bytes,metrics"', line)
            self.assertIn('restart_needed="http_threads"', line)
            self.assertEqual(server.translate("abcd").status, 200)
            self.assertEqual(server.translate("abcd", alternatives=2).status, 400)
            self.assertEqual(server.get("/metrics").status, 200)
            self.assertEqual(server.translate("sleep=9000").status, 503)
            self.assertEqual(server.translate("a", x="y" * 200).status, 413)
            wait_until(lambda: server.translate("a").status == 429)  # a machine that stops for ten seconds gives one more
            self.write({"log_level": "warn", "log_format": "json"})
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.translate("a" * 100).status == 200)
            self.write("{")
            self.hang_up(server, '"reload_failed"')  # so the one before is over, and its level in force
            n = len(server.log_lines("/translate"))
            self.assertGreater(n, 5)
            self.assertEqual(server.translate("a" * 100).status, 200)
            server.stop()
            self.assertEqual(len(server.log_lines("/translate")), n)

    def test_bad_file_changes_nothing(self):
        """Claim: a file with a mistake leaves everything as it was, and one line says why. Method: broken, unknown, out of range,
        gone."""
        self.write({"char_limit": 3})
        with Server(PROGRAM, "--config", self.file.name) as server:
            for text, words in (("{", "line 1"), ({"char_limit": 5, "prot": 1}, "unknown key 'prot'"),
                                ({"char_limit": 5, "max_texts_per_request": -7}, "max_texts_per_request")):
                self.write(text)
                self.assertIn(words, self.hang_up(server, " reload_failed "))
                self.assertEqual(server.translate("abcd").status, 400)
            self.file.close()
            self.hang_up(server, " reload_failed ")
            self.assertEqual(server.translate("abc").status, 200)

    def test_keys_change(self):
        """Claim: SIGHUP reads the file of API keys again; a broken one leaves the keys as they were. Method: a key that is added
        while the server runs, then a file that is no JSON."""
        def add_key():
            done = subprocess.run([PROGRAM, "keys", "add", "--file", path, "--name", "x"], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            return re.search(r"t5-\w+", done.stdout).group(0)

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys.json")
            add_key()
            with Server(PROGRAM, "--api-keys", path, "--require-api-key") as server:
                key = add_key()
                self.assertEqual(server.translate("a", api_key=key).status, 403)
                self.hang_up(server, " reloaded ")
                self.assertEqual(server.translate("a", api_key=key).status, 200)
                pathlib.Path(path).write_text("{", encoding="utf-8")
                self.hang_up(server, " reload_failed ")
                self.assertEqual(server.translate("a", api_key=key).status, 200)

    def test_no_request_is_lost(self):
        """Claim: reloading drops no request. Method: 8 clients without pause, 50 reloads; each reply is right."""
        self.write({})
        wrong, n_replies, is_over = [], [0], threading.Event()
        with Server(PROGRAM, "--config", self.file.name, "--access-log=false") as server:
            def client(name):
                with server.connect() as sock:
                    while not is_over.is_set():
                        reply = server.translate(f"sleep=1 {name}", sock)
                        n_replies[0] += 1
                        if reply.status != 200 or reply.json() != {"translatedText": f"de:sleep=1 {name}"}:
                            wrong.append((name, reply.status))

            threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            try:
                for i in range(50):
                    self.write({"char_limit": 1000 + i, "log_level": "info"})
                    self.hang_up(server, " reloaded ")
            finally:
                is_over.set()
            for thread in threads:
                thread.join()
        print(f"{n_replies[0]} requests over 50 reloads, {len(wrong)} wrong")
        self.assertEqual(wrong, [])
        self.assertGreater(n_replies[0], 50)


class Service(unittest.TestCase):
    def test_notices(self):
        """Claim: the manager hears of start, reload and stop, in order, with a status for people. Method: a start to end."""
        with Manager() as manager:
            with Server(PROGRAM, env={"NOTIFY_SOCKET": manager.path}) as server:
                wait_until(lambda: manager.has("READY=1"))
                self.assertIn(f"\nSTATUS=fake on fake, http://127.0.0.1:{server.port}", manager.read()[0])
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda: len(manager.read()) >= 3)
                self.assertRegex(manager.read()[1], r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
                self.assertTrue(manager.read()[2].startswith("READY=1"))
                server.process.terminate()
                self.assertEqual(server.process.wait(STOP_S), 0)
                self.assertTrue(manager.read()[3].startswith("STOPPING=1"))

    def test_abstract_socket(self):
        """Claim: an abstract notify socket (@name) is understood."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind("\0t5serve-test-%d" % os.getpid())
            sock.settimeout(10)
            with Server(PROGRAM, env={"NOTIFY_SOCKET": "@t5serve-test-%d" % os.getpid()}):
                self.assertTrue(sock.recv(4096).startswith(b"READY=1"))

    def test_watchdog(self):
        """Claim: the watchdog is fed in time while the engine is idle or moves, and not while it is stuck. Method: an interval of
        20 s, though every model is looked at each half second, so that a machine may stop for a while; the times of the notices;
        then work that never moves."""
        with Manager() as manager:
            with Server(PROGRAM, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "20000000"}) as server:
                wait_until(lambda: len(manager.fed()) >= 8)
                times = manager.fed()
                self.assertLess(max(b - a for a, b in zip(times, times[1:])), 20)
                server.translate("stuck")
                wait_until(lambda: time.monotonic() - manager.fed()[-1] > 4)

    def test_watchdog_of_another_process(self):
        """Claim: WATCHDOG_PID of somebody else is not ours."""
        with Manager() as manager:
            with Server(PROGRAM, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}):
                time.sleep(0.7)
                self.assertFalse(manager.has("WATCHDOG=1"))

    def start_with(self, listener, n_fds="1"):
        """A server that gets `listener` as systemd would hand it over: as descriptor 3, with its own pid in LISTEN_PID."""
        script = 'exec 3<&"$1"; export LISTEN_PID=$$; shift; exec "$@"'
        env = {**os.environ, "LISTEN_FDS": n_fds}
        return subprocess.Popen(["bash", "-c", script, "bash", str(listener.fileno()), PROGRAM, "--port", "1"],
                                pass_fds=[listener.fileno()], env=env, stderr=subprocess.PIPE, text=True)

    def test_socket_activation(self):
        """Claim: a socket that the manager opened is served, also who connected before the start; the socket outlives the server,
        and who connects between two servers is served by the second. Method: one socket, two servers after each other."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            for _ in range(2):
                client = socket.create_connection(("127.0.0.1", port), timeout=60)
                client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                process = self.start_with(listener)
                self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200"))
                client.close()
                process.terminate()
                self.assertEqual(process.wait(STOP_S), 0)
                self.assertIn(f"url=http://127.0.0.1:{port} ", process.stderr.read())
                process.stderr.close()

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate")
    def test_activation_by_systemd(self):
        """Claim: systemd's own socket activation starts the server with the first client, which is served. Method:
        systemd-socket-activate, which becomes the server; NOTIFY_SOCKET goes with it."""
        with reserved_port() as port, Manager() as manager:
            process = subprocess.Popen(["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "-E", f"NOTIFY_SOCKET={manager.path}",
                                        PROGRAM, "--port", "1"], stderr=subprocess.PIPE, text=True)
            try:
                client = connect_in_time(port)
                client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200"))
                client.close()
                wait_until(lambda: manager.has("READY=1"))
                process.terminate()
                self.assertEqual(process.wait(STOP_S), 0)
                self.assertIn(f"url=http://127.0.0.1:{port} ", process.stderr.read())
            finally:
                process.kill()
                process.wait()
                process.stderr.close()

    def test_wrong_sockets(self):
        """Claim: what is no listening socket, and more than one, end the start with one line. Method: as it says."""
        with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as listener:
            for sock, n_fds, words in ((closed, "1", "no listening TCP socket"), (listener, "2", "LISTEN_FDS is 2")):
                process = self.start_with(sock, n_fds)
                self.assertEqual(process.wait(STOP_S), 2)
                last = process.stderr.read().strip().splitlines()[-1]
                self.assertTrue(last.startswith("t5serve: ") and words in last, last)
                process.stderr.close()

    def test_health(self):
        """Claim: --health asks the server with the same settings: 0 when it is well, else 1 with one line. Method: a server, its
        port afterwards, a server that answers 503, one that is silent."""
        def health(port, *flags):
            return subprocess.run([PROGRAM, "--health", "--port", str(port), *flags], capture_output=True, text=True, timeout=60)

        with reserved_port() as port:
            with Server(PROGRAM, "--port", str(port)):
                for host in ("127.0.0.1", "*", "0.0.0.0", "localhost"):
                    self.assertEqual(health(port, "--host", host).returncode, 0)
            done = health(port)
            self.assertEqual((done.returncode, done.stderr), (1, f"t5serve: no answer from port {port} of 127.0.0.1\n"))
        for reply, words in ((b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "answers 503"), (b"", "no answer"), (b"what?", "no answer")):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                thread = threading.Thread(target=lambda: answer_once(listener, reply))
                thread.start()
                done = health(listener.getsockname()[1])
                thread.join()
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stderr)


class Units(unittest.TestCase):
    def test_stop_waits_for_the_drain(self):
        """Claim: systemd waits longer for the end than the drain and what follows it may take. Method: the file and the default."""
        text = (UNITS / "t5serve.service").read_text(encoding="utf-8")
        shown = subprocess.run([PROGRAM, "--print-config"], capture_output=True, text=True, timeout=60).stdout
        drain_s = json.loads(shown)["drain_timeout_ms"] / 1000
        self.assertGreater(int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M).group(1)), drain_s + 15)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_units_are_valid(self):
        """Claim: systemd finds nothing to say about the units. Method: systemd-analyze on copies that start this build's program."""
        with tempfile.TemporaryDirectory() as folder:
            for name in ("t5serve.service", "t5serve.socket"):
                text = (UNITS / name).read_text(encoding="utf-8").replace("/usr/local/bin/t5serve", os.path.abspath(PROGRAM))
                pathlib.Path(folder, name).write_text(text, encoding="utf-8")
            files = [os.path.join(folder, name) for name in ("t5serve.service", "t5serve.socket")]
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))


class Clock(unittest.TestCase):
    @unittest.skipUnless(os.path.exists(FAKETIME), "no faketime")
    @unittest.skipIf(b"__asan_init" in PROGRAM_BYTES or b"__tsan_init" in PROGRAM_BYTES, "not with a sanitizer's own clocks")
    def test_jumps_of_the_wall_clock(self):
        """Claim: a wall clock that jumps by a day either way changes no time limit. Method: libfaketime moves it in the middle of
        work that has 600 ms; the log's time shows that it jumped."""
        with tempfile.NamedTemporaryFile("w") as file:
            def jump(offset):
                os.pwrite(file.fileno(), offset.encode() + b"\n", 0)  # in one piece, for who reads meanwhile

            jump("+0d")
            env = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": file.name, "FAKETIME_NO_CACHE": "1",
                   "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            with Server(PROGRAM, "--request-timeout-ms", "600", "--receive-timeout-ms", "1500", env=env) as server:
                for offset in ("+1d", "-1d", "+0d"):
                    begin = time.monotonic()
                    half = server.connect()
                    half.sendall(b"GET /health HTTP/1.1\r\n")
                    timer = threading.Timer(0.2, jump, [offset])
                    timer.start()
                    self.assertEqual(server.translate("sleep=120000").status, 503)
                    took_s = time.monotonic() - begin
                    timer.join()
                    self.assertTrue(0.59 < took_s < 20, took_s)
                    self.assertEqual(half.recv(100), b"")
                    self.assertTrue(1.4 < time.monotonic() - begin < 20)
                    half.close()
                    self.assertEqual(server.translate("a").status, 200)
                server.stop()
                days = {line[:10] for line in server.log_text().splitlines()}
                self.assertGreaterEqual(len(days), 3, days)


def connect_in_time(port):
    """To who will listen there soon."""
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def answer_once(listener, reply):
    client, _ = listener.accept()
    with client:
        client.recv(4096)
        client.sendall(reply)


unittest.main(verbosity=2, warnings="ignore")
