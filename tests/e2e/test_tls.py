#!/usr/bin/env python3
"""HTTPS by certificate files. Method: certificates made here with openssl; Python's ssl, curl and t5serve --health as clients; the fake
translator where time is the test's to choose. Usage: test_tls.py T5SERVE T5SERVE_FAKE"""
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from server import STOP_S, Gate, Reply, Server, leave_early, post, read_reply, unchunked, wait_until

FAKE = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)
RECEIVE_MS = 3000


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=120)


class TlsServer(Server):
    """A Server whose clients speak TLS and trust the certificate `cert`."""

    def __init__(self, program, cert, key, *flags):
        super().__init__(program, "--tls-cert", str(cert), "--tls-key", str(key), *flags)
        self.context = ssl.create_default_context(cafile=str(cert))

    def connect(self):
        return self.wrap(self.context)

    def wrap(self, context):
        return context.wrap_socket(super().connect(), server_hostname="localhost")


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        cls.cert, cls.key = cls.make("a", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        cls.other_cert, cls.other_key = cls.make("b", "rsa:2048")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def make(cls, name, *algorithm):
        """A certificate for localhost and its key."""
        cert, key = cls.path / f"{name}.crt", cls.path / f"{name}.key"
        openssl("req", "-x509", "-newkey", *algorithm, "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "30",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        return cert, key

    def curl(self, server, path, *words):
        return subprocess.run(["curl", "-sS", "--max-time", "60", "--cacert", str(self.cert), *words,
                               f"https://localhost:{server.port}{path}"], capture_output=True, check=False, timeout=90)

    def test_clients(self):
        """Claim: curl and Python get their translations, whole and as a stream, several on one connection, and --health works;
        who does not know the certificate does not."""
        body = json.dumps({"q": "How are you?", "source": "en", "target": "de"})
        with TlsServer(PROGRAM, self.cert, self.key) as server:
            self.assertIn(f"https://{server.host}:{server.port}", server.log_text())
            done = self.curl(server, "/translate", "-H", "content-type: application/json", "-d", body)
            text = json.loads(done.stdout)["translatedText"]
            done = self.curl(server, "/translate", "-N", "-d", "q=How are you?&source=en&target=de&stream=true")
            self.assertEqual(json.loads(done.stdout.decode().strip().split("data: ")[-1])["translatedText"], text)
            with server.connect() as sock:
                for _ in range(20):
                    reply = server.raw(post("/translate", body.encode()), sock)
                    self.assertEqual((reply.status, reply.json()["translatedText"]), (200, text))
            untrusting = subprocess.run(["curl", "-sS", "--max-time", "60", f"https://localhost:{server.port}/health"],
                                        capture_output=True, check=False, timeout=90)
            self.assertEqual(untrusting.returncode, 60)
            health = [PROGRAM, "--health", "--port", str(server.port)]
            files = ["--tls-cert", str(self.cert), "--tls-key", str(self.key)]
            self.assertEqual(subprocess.run([*health, *files], check=False).returncode, 0)
            self.assertEqual(subprocess.run(health, check=False, capture_output=True).returncode, 1)

    def test_suspended(self):
        """Claim: requests that wait for the engine, large bodies, large replies and streams work over TLS, in company. Method:
        clients in threads, each with a connection of its own, against the fake translator."""
        wrong = []

        def client(i):
            try:
                with server.connect() as sock:
                    for k in range(6):
                        text = f"sleep={10 + 7 * k} {i} {k} " + "x" * (40000 * (k % 3))
                        fields = {"q": text, "source": "en", "target": "de"}
                        reply = server.raw(post("/translate", json.dumps(fields).encode()), sock)
                        if reply.json() != {"translatedText": "de:" + text}:
                            wrong.append((i, k, reply.status))
                        reply = server.raw(post("/translate", json.dumps({**fields, "q": f"drip=3 {i}", "stream": True}).encode()), sock)
                        last = json.loads(unchunked(reply.body).split(b"data: ")[-1])
                        if last["translatedText"] != f"de:drip=3 {i}":
                            wrong.append((i, k, last))
            except Exception as problem:  # pylint: disable=broad-except
                wrong.append((i, repr(problem)))

        with TlsServer(FAKE, self.cert, self.key) as server:
            threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [])

    def test_clients_that_leave(self):
        """Claim: clients that leave in the middle, orderly and not, give up their work and harm nobody."""
        with TlsServer(FAKE, self.cert, self.key) as server:
            request = post("/translate", json.dumps({"q": "sleep=30 a", "source": "en", "target": "de"}).encode())
            leave_early(server, request, 60)
            with server.connect() as sock:
                sock.sendall(post("/translate", json.dumps({"q": "sleep=60000 a", "source": "en", "target": "de"}).encode()))
            self.assertEqual(server.translate("Hi").json(), {"translatedText": "de:Hi"})

    def test_versions(self):
        """Claim: TLS 1.2 and 1.3 are spoken, nothing older. Method: clients that speak one version alone."""
        with TlsServer(FAKE, self.cert, self.key) as server:
            for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
                context = ssl.create_default_context(cafile=str(self.cert))
                context.minimum_version = context.maximum_version = version
                with server.wrap(context) as sock:
                    self.assertEqual(sock.version(), name)
            done = subprocess.run(["openssl", "s_client", "-connect", f"{server.host}:{server.port}", "-tls1_1", "-cipher",
                                   "DEFAULT@SECLEVEL=0"], input=b"", capture_output=True, check=False, timeout=120)
            self.assertNotEqual(done.returncode, 0)
            self.assertNotIn(b"BEGIN CERTIFICATE", done.stdout)

    def test_slow_and_plain(self):
        """Claim: a handshake that does not go on is cut at receive_timeout_ms, plain HTTP and nonsense at once; others are served
        meanwhile. Method: silence, half a hello, and a request without TLS."""
        hello = ssl.create_default_context().wrap_bio(incoming := ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname="a")
        with self.assertRaises(ssl.SSLWantReadError):
            hello.do_handshake()
        del incoming
        first = outgoing.read()
        with TlsServer(FAKE, self.cert, self.key, "--receive-timeout-ms", str(RECEIVE_MS)) as server:
            slow, started = [], time.monotonic()
            for begin in (b"", first[:20], first):
                sock = socket.create_connection((server.host, server.port), timeout=120)
                sock.sendall(begin)
                slow.append(sock)
            for nonsense in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 500):
                with socket.create_connection((server.host, server.port), timeout=120) as sock:
                    sock.sendall(nonsense)
                    self.assertFalse(read_reply(sock, nonsense).startswith(b"HTTP/"))
            self.assertEqual(server.get("/health").status, 200)
            for sock in slow:
                with sock:
                    while True:
                        try:
                            if not sock.recv(65536):
                                break
                        except ConnectionResetError:
                            break
            self.assertGreater(time.monotonic() - started, (RECEIVE_MS - 1) / 1000)  # the server counts whole milliseconds
            self.assertEqual(server.get("/health").status, 200)

    def test_stop(self):
        """Claim: SIGTERM answers what is under way over TLS, then ends with 0."""
        with Gate() as gate, TlsServer(FAKE, self.cert, self.key, "--metrics") as server:
            with server.connect() as sock, server.connect() as idle:
                server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", idle)
                request = post("/translate", json.dumps({"q": gate.text, "source": "en", "target": "de"}).encode())
                sock.sendall(request)
                wait_until(lambda: server.metric("t5serve_sequences_total") == 1)
                server.process.send_signal(signal.SIGTERM)
                server.wait_for_log(" draining ")
                gate.open()
                reply = Reply(read_reply(sock, request))
                self.assertEqual((reply.status, reply.json()), (200, {"translatedText": "de:" + gate.text}))
                self.assertEqual(reply.headers["connection"], "close")
            self.assertEqual(server.process.wait(STOP_S), 0)

    def test_renewal(self):
        """Claim: SIGHUP reads the files again: new clients meet the new certificate, connections that are open stay; files that
        do not fit together change nothing and are named."""
        cert, key = self.path / "now.crt", self.path / "now.key"

        def put(new_cert, new_key):
            cert.write_bytes(new_cert.read_bytes())
            key.write_bytes(new_key.read_bytes())

        def reload(server, event):
            n_before = len(server.log_lines(event))
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log(event, n_before + 1)

        put(self.cert, self.key)
        with TlsServer(FAKE, cert, key) as server:
            with server.connect() as old:
                for n in range(3):
                    put(self.other_cert, self.other_key)
                    reload(server, " reloaded ")
                    with self.assertRaises(ssl.SSLCertVerificationError):
                        server.connect()
                    with server.wrap(ssl.create_default_context(cafile=str(self.other_cert))) as new:
                        self.assertEqual(server.get("/health", new).status, 200)
                    self.assertEqual(server.get("/health", old).status, 200, n)
                    put(self.other_cert, self.key)
                    reload(server, " reload_failed ")
                    self.assertIn("tls_key: " + str(key), server.log_text())
                    server.wrap(ssl.create_default_context(cafile=str(self.other_cert))).close()
                    put(self.cert, self.key)
                    reload(server, " reloaded ")
                    server.connect().close()

    def test_mistakes(self):
        """Claim: files that are missing, unreadable, empty, of another kind, locked or of two pairs end the start with one line that
        names the setting and the file."""
        empty, text, locked = self.path / "empty", self.path / "text", self.path / "locked.key"
        empty.write_bytes(b"")
        text.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        openssl("pkey", "-in", str(self.key), "-aes256", "-passout", "pass:abcd", "-out", str(locked))
        many = self.path / "many"
        many.write_bytes(self.cert.read_bytes() * 17)
        cases = [
            (["--tls-cert", self.cert], 2, "tls_cert: goes with tls_key, which is not set"),
            (["--tls-key", self.key], 2, "tls_key: goes with tls_cert, which is not set"),
            (["--tls-cert", self.path / "no", "--tls-key", self.key], 1, f"tls_cert: {self.path}/no: "),
            (["--tls-cert", self.cert, "--tls-key", self.path / "no"], 1, f"tls_key: {self.path}/no: "),
            (["--tls-cert", self.path, "--tls-key", self.key], 1, f"tls_cert: {self.path}: "),
            (["--tls-cert", empty, "--tls-key", self.key], 1, f"tls_cert: {empty}: "),
            (["--tls-cert", text, "--tls-key", self.key], 1, f"tls_cert: {text}: no chain of certificates in PEM form"),
            (["--tls-cert", many, "--tls-key", self.key], 1, f"tls_cert: {many}: "),
            (["--tls-cert", self.key, "--tls-key", self.key], 1, f"tls_cert: {self.key}: no chain of certificates"),
            (["--tls-cert", self.cert, "--tls-key", self.cert], 1, f"tls_key: {self.cert}: no private key"),
            (["--tls-cert", self.cert, "--tls-key", empty], 1, f"tls_key: {empty}: "),
            (["--tls-cert", self.cert, "--tls-key", locked], 1, f"tls_key: {locked}: no private key in PEM form without a password"),
            (["--tls-cert", self.cert, "--tls-key", self.other_key], 2,
             f"tls_key: {self.other_key} is not the key of the certificate in {self.cert} (tls_cert)"),
        ]
        if os.geteuid() != 0:
            unreadable = self.path / "unreadable"
            unreadable.write_bytes(self.key.read_bytes())
            unreadable.chmod(0)
            cases.append((["--tls-cert", self.cert, "--tls-key", unreadable], 1, f"tls_key: {unreadable}: "))
        for flags, code, wanted in cases:
            done = subprocess.run([FAKE, "--port", "0", *map(str, flags)], capture_output=True, text=True, check=False, timeout=120)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn("t5serve: " + wanted, done.stderr.splitlines()[-1])

    def test_warnings(self):
        """Claim: what works and should not be so is said in the log: a key that everybody may read, a certificate out of date."""
        cert, key = self.path / "old.crt", self.path / "old.key"
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(self.path / "old.csr"), "-subj", "/CN=localhost")
        openssl("x509", "-req", "-in", str(self.path / "old.csr"), "-signkey", str(key), "-out", str(cert), "-days", "-1")
        key.chmod(0o644)
        with TlsServer(FAKE, cert, key) as server:
            self.assertIn("the certificate is out of date", server.log_text())
            self.assertIn("everybody on this machine may read the key", server.log_text())
        with TlsServer(FAKE, self.cert, self.key) as server:
            self.assertNotIn(" warn ", server.log_text())


if __name__ == "__main__":
    unittest.main()
