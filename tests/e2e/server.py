"""A t5serve process on a free port, and a client that can send what no HTTP library would. For the tests beside it."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time

# A hang would last for ever; a sanitizer build on a busy machine with a slow disk takes its time.
START_S = STOP_S = WAIT_S = 120
REPLY_S = 300  # of work that the server may take as long for
BUNDLED = pathlib.Path(__file__).resolve().parents[2] / "models/t5-tatoeba"


def bundled_pairs():
    """(source, target) of what the bundled model translates, in its order."""
    return [tuple(pair) for pair in json.loads((BUNDLED / "t5serve.json").read_text())["pairs"]]


def wait_until(condition, seconds=WAIT_S):
    """Returns what condition() gives, once that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def reserved_port():
    """A port for a server of the test's own, which nobody else gets meanwhile: bound and never listened on, by a socket that lets
    another one share it (SO_REUSEADDR)."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Gate:
    """Work of the fake translator that takes until open() is called, whatever the machine: `text` is the text that asks for it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name, "open")
        self.text = f"hold={self.path}"
        return self

    def __exit__(self, kind, value, trace):
        self.folder.cleanup()

    def open(self):
        self.path.touch()


class Reply:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        try:
            return self.json().get("error", "")
        except (ValueError, AttributeError):
            return self.body.decode("utf-8", "replace")


class Server:
    """Starts on entry; on exit stops with SIGTERM and asserts exit code 0 unless the test has waited itself."""

    def __init__(self, program, *flags, env=None):
        self.program, self.flags, self.env = program, list(flags), env or {}

    def __enter__(self):
        self.log = tempfile.TemporaryFile("w+")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("T5_", "LT_"))}
        self.process = subprocess.Popen([self.program, "--port", "0", *self.flags], stderr=self.log,
                                        env={**env, **self.env})
        end = time.monotonic() + START_S
        while True:
            found = re.search(r"listening\W+url\W+https?://(\S+?):(\d+)", self.log_text())
            if found:
                break
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError("t5serve did not start:\n" + self.log_text())
            time.sleep(0.01)
        self.host, self.port = found.group(1), int(found.group(2))
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("t5serve did not stop:\n" + self.log_text())
            assert self.process.returncode == 0, (self.process.returncode, self.log_text())
        if kind is not None:
            print(self.log_text())
        self.log.close()

    def log_text(self):
        """Its whole lines so far; they come some 20 ms after what they tell, on a busy machine later. Not by seek(), which would
        move the place where the server writes."""
        text = os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")
        return text[:text.rfind("\n") + 1]

    def wait_for_log(self, pattern, n=1):
        """The first n lines with the expression, once they are there."""
        return wait_until(lambda: found[:n] if len(found := self.log_lines(pattern)) >= n else None)

    def log_lines(self, pattern):
        return [line for line in self.log_text().splitlines() if re.search(pattern, line)]

    def stop(self):
        """SIGTERM, and the end with exit code 0: then the log is whole."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_S)
        assert code == 0, (code, self.log_text())

    def metric(self, name):
        """The value of a sample of /metrics."""
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.M).group(1))

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=REPLY_S)

    def raw(self, request, sock=None):
        """Sends bytes, or pieces of them, and reads one reply; without `sock` on a connection of its own."""
        own = sock is None
        sock = sock or self.connect()
        try:
            for piece in [request] if isinstance(request, bytes) else request:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # an early refusal: the reply may be there all the same
        try:
            return Reply(read_reply(sock, request))
        finally:
            if own:
                sock.close()

    def post(self, path, body, content_type="application/json", headers=(), sock=None):
        return self.raw(post(path, body, content_type, headers), sock)

    def translate(self, text, sock=None, **fields):
        fields = {"q": text, "source": "en", "target": "de", **fields}
        return self.post("/translate", json.dumps(fields).encode(), sock=sock)

    def get(self, path, sock=None):
        return self.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), sock)


def is_open(server):
    """Somebody listens there."""
    try:
        server.connect().close()
        return True
    except ConnectionRefusedError:
        return False


def post(path, body, content_type="application/json", headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(path, body, content_type="application/json", chunk=5000):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: {content_type}\r\n\r\n"
    pieces = [body[i:i + chunk] for i in range(0, len(body), chunk)]
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def unchunked(body):
    """What a chunked body says; b"" when it is not complete."""
    text = b""
    while True:
        size, found, rest = body.partition(b"\r\n")
        if not found:
            return b""
        if int(size, 16) == 0:
            return text
        text, body = text + rest[:int(size, 16)], rest[int(size, 16) + 2:]


def leave_early(server, request, n_clients=300):
    """Clients that send `request` and leave before, while and after it is answered, by close and by reset."""
    for i in range(n_clients):
        sock = server.connect()
        if i % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(request)
        time.sleep(i % 15 * 0.001)
        sock.close()


def read_reply(sock, request):
    """One reply: by its Content-Length or last chunk, or until the end of the connection."""
    raw = b""
    is_head = isinstance(request, bytes) and request.startswith(b"HEAD")
    try:
        while True:
            head, found, body = raw.partition(b"\r\n\r\n")
            if found and raw.startswith(b"HTTP/1.1 100"):
                raw = body
                continue
            length = re.search(rb"(?i)content-length: *(\d+)", head) if found else None
            if found and (is_head or (length and len(body) >= int(length.group(1)))):
                return raw
            if found and re.search(rb"(?i)transfer-encoding: *chunked", head) and body.endswith(b"\r\n0\r\n\r\n"):
                return raw
            piece = sock.recv(65536)
            if not piece:
                return raw
            raw += piece
    except (ConnectionResetError, BrokenPipeError):
        return raw
