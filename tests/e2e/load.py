"""Load for the tests beside it: requests of every kind with the reply that each must get, and clients by the dozen."""
import json
import os
import pathlib
import re
import threading
import time
import unittest

from server import post, unchunked

TOP = pathlib.Path(__file__).resolve().parents[2]
MODEL = TOP / "models/t5-tatoeba"
# Part of the work that a slow build (sanitizers) does, and how often a lottery is repeated.
SCALE = float(os.environ.get("T5_TEST_SCALE", "1"))
REPEATS = int(os.environ.get("T5_TEST_REPEATS", "100"))


# The bundled model; a slow build takes one that is hundreds of times smaller and speaks nonsense, always the same.
FLAGS = ["--metrics", "--access-log=false", "--request-timeout-ms=0"]
if SCALE < 1:
    FLAGS += [f"--model={TOP}/tests/fixtures/madlad", "--threads=1"]


# Speed is only measured where it is real.
needs_speed = unittest.skipIf(SCALE < 1, "a slow build")


def scaled(n, at_least=1):
    return max(at_least, int(n * SCALE))


def sentences(n, longest=60):
    """Different English sentences of the bundled model's test set."""
    lines = (MODEL / "data/test.en-de.tsv").read_text(encoding="utf-8").splitlines()
    lines += (MODEL / "data/test.en-fr.tsv").read_text(encoding="utf-8").splitlines()
    texts = dict.fromkeys(line.split("\t")[0] for line in lines)
    found = [t for t in texts if len(t) <= longest][:n]
    assert len(found) == n, len(found)
    return found


def metrics(server):
    """All values of /metrics: {name with labels: number}."""
    text = server.get("/metrics").body.decode()
    return {m.group(1): float(m.group(2)) for m in re.finditer(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def translate(**fields):
    return post("/translate", json.dumps({"source": "en", "target": "de", **fields}).encode())


def mixed_requests(n):
    """n requests in turn greedy, with beams, sampled, with alternatives, of several texts, detected, as a form, scored by
    nobody (markup and bad languages are refused), broken."""
    texts = sentences(n)
    kinds = [
        lambda t, i: translate(q=t, num_beams=1),
        lambda t, i: translate(q=t, num_beams=4, target="fr"),
        lambda t, i: translate(q=t, num_beams=1, do_sample=True, temperature=1.5, seed=i),
        lambda t, i: translate(q=t, alternatives=2),
        lambda t, i: translate(q=[t, texts[i - 1], "", texts[i - 2]], num_beams=2),
        lambda t, i: translate(q=t, source="auto", num_beams=1),
        lambda t, i: post("/translate", f"q={t.replace('%', '%25').replace('&', '%26')}&source=en&target=de".encode(),
                          "application/x-www-form-urlencoded"),
        lambda t, i: translate(q=t, target="xx"),
        lambda t, i: translate(q=t, max_new_tokens=99999),
        lambda t, i: post("/translate", json.dumps({"q": t}).encode()[:-1]),
        lambda t, i: translate(q=t + " " + texts[i - 3], num_beams=3, max_new_tokens=20),
        lambda t, i: translate(q=[t, texts[i - 1]], stream=True, num_beams=1),
        lambda t, i: translate(q=t, stream=True, num_beams=2, source="auto"),
        lambda t, i: post("/generate", json.dumps({"input": t, "num_beams": 3, "max_new_tokens": 12}).encode()),
    ]
    return [kinds[i % len(kinds)](text, i) for i, text in enumerate(texts)]


def told(reply):
    """What must be the same each time. Of a stream: the whole reply, its last event; the pieces before it must be the
    same text, but may be cut differently."""
    if reply.headers.get("content-type") != "text/event-stream":
        return reply.status, reply.body
    events = [json.loads(data) for data in re.findall(rb"^data: (.*)$", unchunked(reply.body), re.M)]
    if not events:
        return reply.status, b"cut short: " + reply.body
    pieces, texts, last = {}, events[-1].get("translatedText"), json.dumps(events[-1]).encode()
    for event in events[:-1]:
        pieces[event.get("index", 0)] = pieces.get(event.get("index", 0), "") + event["text"]
    whole = dict(enumerate(texts if isinstance(texts, list) else [texts]))
    return reply.status, last if pieces == {i: text for i, text in whole.items() if text} else b"pieces: " + reply.body


def alone(server, requests):
    """The reply to each request, one after the other."""
    with server.connect() as sock:
        return [told(server.raw(request, sock)) for request in requests]


def in_threads(n, work):
    """work(i) for each i in a thread of its own; the first exception is raised here."""
    problems = []

    def run(i):
        try:
            work(i)
        except BaseException as problem:  # pylint: disable=broad-except
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


class Background:
    """work() again and again in some threads while the block runs; its exceptions come at the end."""

    def __init__(self, n_threads, work):
        self.n_threads, self.work, self.is_over, self.problems, self.n_done = n_threads, work, False, [], 0

    def run(self):
        try:
            while not self.is_over:
                self.work()
                self.n_done += 1
        except BaseException as problem:  # pylint: disable=broad-except
            self.problems.append(problem)

    def __enter__(self):
        self.threads = [threading.Thread(target=self.run) for _ in range(self.n_threads)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.is_over = True
        for thread in self.threads:
            thread.join()
        if kind is None and self.problems:
            raise self.problems[0]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# The server closes a connection that was idle for receive_timeout_ms, 30 s, maybe as its client sends the next request.
IDLE_S = 10


def open_loop(server, request, rate, seconds, rng):
    """Sends `request` at Poisson moments whatever comes back. Returns [(status, body, seconds)]; a client that finds no
    connection free opens one, so that nobody waits for another's reply."""
    lock, idle, results, threads = threading.Lock(), [], [], []
    slots = threading.Semaphore(400)

    def ask(sock, due):
        try:
            sock = sock or server.connect()
            reply = server.raw(request, sock)
            took = time.monotonic() - due
            with lock:
                results.append((reply.status, reply.body, took))
                if reply.headers.get("connection", "").lower() != "close" and reply.status:
                    idle.append((sock, time.monotonic()))
                    sock = None
        except OSError as problem:
            with lock:
                results.append((0, str(problem).encode(), time.monotonic() - due))
        finally:
            if sock is not None:
                sock.close()
            slots.release()

    begin = due = time.monotonic()
    while due < begin + seconds:
        due += rng.expovariate(rate)
        time.sleep(max(0, due - time.monotonic()))
        slots.acquire()
        with lock:
            while idle and idle[0][1] < time.monotonic() - IDLE_S:
                idle.pop(0)[0].close()
            sock = idle.pop()[0] if idle else None
        thread = threading.Thread(target=ask, args=(sock, due))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    for sock, _ in idle:
        sock.close()
    return results
