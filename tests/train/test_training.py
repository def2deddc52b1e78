#!/usr/bin/env python3
"""Usage: test_training.py T5_PROGRAM T5SERVE_PROGRAM SOURCE_FOLDER

Claim: train/train.py learns; stopped and started again it has the same losses as without a stop; what it exports is
the same to `t5` as to PyTorch; rounding for int8 and int4 is that of `t5 quantize`; each command of docs/training.md
does what the page says. Method: tiny models on made-up sentences; the page's commands are read from the page, and only
their sizes are made smaller. Needs train/requirements.txt.
"""
import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

T5, T5SERVE, SOURCE = "", "", Path()
TINY = "d_model=32,d_ff=64,d_kv=16,num_heads=2,num_layers=2,num_decoder_layers=2"
PAIRS = [("the dog sees a cat", "der Hund sieht eine Katze"), ("the cat sees a dog", "die Katze sieht einen Hund"),
         ("a small house", "ein kleines Haus"), ("an old tree by the river", "ein alter Baum am Fluss"),
         ("good morning", "guten Morgen"), ("good night", "gute Nacht"), ("the river is blue", "der Fluss ist blau"),
         ("the house is old", "das Haus ist alt")]


WORDS = list(zip("red blue old new big small house tree river cat dog night".split(),
                 "rot blau alt neu groß klein Haus Baum Fluss Katze Hund Nacht".split(), strict=True))


def many_pairs(n):
    """n different made-up pairs."""
    for i in range(n):
        chosen = [WORDS[(i // len(WORDS) ** k + k) % len(WORDS)] for k in range(4)]
        yield " ".join(a for a, _ in chosen), " ".join(b for _, b in chosen)


def write_pairs(path, pairs):
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")


def python(*words, expect=0, **options):
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == expect, f"{words}: exit code {done.returncode}, not {expect}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def train_here(*words, expect=0):
    """train.py in this process, which has read PyTorch already: the seconds that this takes are most of a small run."""
    import texts
    import train
    said, handlers = io.StringIO(), [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    sys.argv = ["train.py", *map(str, words)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = texts.run(train.main)
    except SystemExit as stop:
        code = stop.code
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    assert code == expect, f"{words}: exit code {code}, not {expect}: {said.getvalue()}"
    return said.getvalue()


def t5(*words, text=""):
    return subprocess.run([T5, *map(str, words)], input=text, capture_output=True, text=True, check=True,
                          timeout=300).stdout


class TrainingTest(unittest.TestCase):
    """A folder with data/: PAIRS as training, three of them as valid."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.data = cls.folder / "data"
        write_pairs(cls.folder / "all.tsv", PAIRS)
        python(SOURCE / "train/prepare.py", cls.data, "--pair", "en-de", cls.folder / "all.tsv", "--license", "made up",
               "--vocab-size", 320, "--valid", 0, "--test", 0)
        write_pairs(cls.data / "valid.en-de.tsv", PAIRS[:3])

    def arguments(self, out, *more):
        words = [str(self.data), str(self.folder / out), "--threads", "1", "--warmup", "5", "--tokens", "120", *more]
        return words if "--init" in more else [*words, "--shape", TINY]

    def make_run(self, out, *more):
        """The parts of a run in this process, with nothing done yet."""
        import train
        sys.argv = ["train.py", *self.arguments(out, *more)]
        run = train.Run(train.parse())
        run.args.out.mkdir(exist_ok=True)
        return run


class ResumeTest(TrainingTest):
    def losses(self, run, n):
        losses = []
        for _ in range(n):
            run.session.train_step(run.train)
            losses.append(run.session.loss)
        return losses

    def test_resumed_is_as_never_stopped(self):
        for name, more in (("adamw", ["--precision", "float32"]),
                           ("muon", ["--optimizer", "muon", "--precision", "bfloat16", "--accumulate", "2"])):
            more += ["--steps", "8"]
            whole = self.make_run(name + "-whole", *more)
            expected = self.losses(whole, 8)
            first = self.make_run(name + "-cut", *more)
            begun = self.losses(first, 3)
            first.session.save()
            second = self.make_run(name + "-cut", *more)
            self.assertTrue(second.session.load())
            self.assertEqual(begun + self.losses(second, 5), expected)
            self.assertEqual(len(set(expected)), 8)
            for key, tensor in whole.session.model.state_dict().items():
                self.assertTrue(tensor.equal(second.session.model.state_dict()[key]), key)

    def test_other_settings_are_refused(self):
        from texts import Failure
        run = self.make_run("settings", "--steps", "8")
        run.session.save()
        for more, named in ((["--tokens", "99"], "--tokens"), (["--seed", "2"], "--seed"),
                            (["--directions", "de-en"], "the training data"), (["--dropout", "0.3"], "the shape")):
            with self.assertRaisesRegex(Failure, named):
                self.make_run("settings", "--steps", "8", *more).session.load()
        self.assertTrue(self.make_run("settings", "--steps", "80", "--decay", "0.5").session.load())
        run.session.path.write_bytes(b"PK nonsense")
        with self.assertRaisesRegex(Failure, "not a checkpoint"):
            self.make_run("settings", "--steps", "8").session.load()

    def test_a_direction_may_count_twice(self):
        """Claim: then its pairs are learnt from twice; valid sentences and t5serve.json have it once, a checkpoint tells."""
        from texts import Failure
        once = self.make_run("once", "--steps", "1", "--directions", "en-de,de-en")
        twice = self.make_run("once", "--steps", "1", "--directions", "en-de,de-en,en-de")
        self.assertEqual([len(run.train) for run in (once, twice)], [2 * len(PAIRS), 3 * len(PAIRS)])
        self.assertEqual(len(once.valid), len(twice.valid))
        once.session.save()
        with self.assertRaisesRegex(Failure, "the training data"):
            twice.session.load()
        twice.export()
        profile = json.loads((self.folder / "once/model/t5serve.json").read_text())
        self.assertEqual(profile["pairs"], [["en", "de"], ["de", "en"]])

    def test_a_signal_stops_after_the_step(self):
        command = [sys.executable, str(SOURCE / "train/train.py"), *self.arguments("stopped", "--steps", "1000000",
                   "--log-every", "1", "--valid-every", "1000000")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            said = next(line for line in process.stderr if "step 2 " in line)
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            self.assertEqual(process.wait(timeout=120), 0, said)
        n_done = int(re.search(r"stopped after step (\d+); the same command goes on", said)[1])
        again = train_here(*self.arguments("stopped", "--steps", str(n_done + 1), "--log-every", "1"))
        self.assertIn(f"checkpoint.pt, step {n_done}", again)
        steps = [json.loads(line)["step"] for line in (self.folder / "stopped/log.jsonl").read_text().splitlines()]
        self.assertEqual(steps, [*range(1, n_done + 2), n_done + 1])  # the last twice: training and valid loss

    def test_accumulated_batches_are_one_large_batch(self):
        from session import IGNORED, to_tensors
        large = self.make_run("large", "--steps", "1", "--dropout", "0", "--tokens", "4000", "--precision", "float32")
        parts = self.make_run("parts", "--steps", "1", "--dropout", "0", "--accumulate", "4", "--precision", "float32")
        from tokens import cut_into_batches
        n_batches = len(cut_into_batches(parts.train, parts.args.tokens, "1 0"))
        self.assertGreater(n_batches, 1)
        parts.args.accumulate = n_batches
        for run in (large, parts):
            run.session.train_step(run.train)
        self.assertAlmostEqual(large.session.loss, parts.session.loss, places=5)
        self.assertEqual(large.session.n_tokens, parts.session.n_tokens)
        tensors = to_tensors(large.train, range(len(large.train)), large.session.model.config, "cpu")
        self.assertEqual(large.session.n_tokens, int(tensors[1].sum() + (tensors[3] != IGNORED).sum()))


class LearningTest(TrainingTest):
    def test_what_was_learnt_is_served(self):
        train_here(*self.arguments(
            "learnt", "--steps", "150", "--lr", "0.004", "--dropout", "0", "--label-smoothing", "0", "--tokens", "2000",
            "--optimizer", "muon", "--precision", "float32", "--log-every", "150", "--valid-every", "150"))
        model = self.folder / "learnt/model"
        out = t5("translate", "--model", model, "--source", "en", "--target", "de", "--num-beams", "2",
                 text="".join(a + "\n" for a, _ in PAIRS))
        self.assertEqual(out.splitlines(), [b for _, b in PAIRS])
        self.assertIn("made up", (model / "README.md").read_text())
        self.check_scores(model)

    def check_scores(self, model):
        """t5 and PyTorch give the same log-probabilities to the exported weights."""
        import torch
        from models import open_model
        from tokens import open_tokenizer
        loaded, tokenizer = open_model(model).eval(), open_tokenizer(model)
        source, target = "translate English to German: the old dog sees", "ein Haus am Fluss"
        ids = torch.tensor(tokenizer.encode([source])[0] + [1])[None]
        labels = torch.tensor(tokenizer.encode([target])[0] + [1])[None]
        with torch.no_grad():
            expected = loaded(input_ids=ids, labels=labels).logits.log_softmax(-1).gather(-1, labels[..., None])
        reply = json.loads(t5("score", "--json", "--model", model, "--compute-type", "float32",
                              text=json.dumps({"text": source, "target": target}) + "\n"))
        for ours, theirs in zip(reply["token_logprobs"], expected.flatten().tolist(), strict=True):
            self.assertAlmostEqual(ours, theirs, delta=1e-3 * max(1, abs(theirs)))

    def test_hugging_face_reads_the_same_ids(self):
        """Method: AutoTokenizer of what was exported and of the bundled model, on texts of all kinds."""
        from tokens import open_tokenizer
        from transformers import AutoTokenizer
        self.make_run("ids", "--steps", "1").export()
        bundled = SOURCE / "models/t5-tatoeba"
        lines = [line for path in bundled.glob("data/test.*.tsv")
                 for line in path.read_text(encoding="utf-8").splitlines()[:50]]
        lines += ["", " ", "  a  b ", "translate English to German: Good night.", "Ｆｕｌｌ ½ Ⅷ … “ﬁne”", "日本語 🎉🎉 привет",
                  "e\u0301 a\u00a0b\u200bc\u00ad", "a \u2581 b", "x" * 60]
        for folder in (self.folder / "ids/model", bundled):
            ours, theirs = open_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
            for line, ids in zip(lines, ours.encode(lines), strict=True):
                self.assertEqual(theirs(line)["input_ids"], ids + [theirs.eos_token_id], line)
                self.assertEqual(theirs.decode(ids), ours.decode(ids), line)
            sentinels = [f"<extra_id_{i}>" for i in range(100)]
            self.assertEqual(theirs.convert_tokens_to_ids(sentinels), [ours.n_pieces + 99 - i for i in range(100)])

    def test_gated_models_have_a_head(self):
        run = self.make_run("gated", "--steps", "1", "--gated", "--name", "mine")
        run.session.train_step(run.train)
        run.export()
        config = json.loads((self.folder / "gated/model/config.json").read_text())
        self.assertEqual((config["feed_forward_proj"], config["tie_word_embeddings"]), ("gated-gelu", False))
        self.check_scores(self.folder / "gated/model")
        said = t5("inspect", "--model", self.folder / "gated/model")
        self.assertRegex(said, r"family +T5 v1\.1")
        self.assertRegex(said, r"name +mine")

    def test_the_teacher_is_what_is_learnt_from(self):
        """With kl 1 the text does not matter: student = teacher has divergence 0, and its gradient is 0."""
        first = self.make_run("teacher", "--steps", "1", "--precision", "float32")
        first.export()
        model = str(self.folder / "teacher/model")
        twin = self.make_run("twin", "--init", model, "--teacher", model, "--kl", "1", "--steps", "1", "--dropout", "0",
                             "--precision", "float32")
        twin.session.train_step(twin.train)
        self.assertLess(abs(twin.session.loss), 1e-4)
        half = self.make_run("half", "--init", model, "--teacher", model, "--keep-decoder-layers", "0", "--kl", "1",
                             "--steps", "1", "--dropout", "0")
        half.session.train_step(half.train)
        self.assertGreater(half.session.loss, 1e-3)
        self.assertEqual(half.session.model.config.num_decoder_layers, 1)

    def test_steps_of_q_have_the_size_of_its_weights(self):
        run = self.make_run("rates", "--steps", "1", "--lr", "0.001", "--optimizer", "muon")
        names = {id(p): name for name, p in run.session.model.named_parameters()}
        rates = {names[id(p)]: group["lr"] for part in run.session.optimizers.parts for group in part.param_groups
                 for p in group["params"]}
        self.assertEqual(set(rates), set(names.values()))
        prefix = "decoder.block.1.layer.1.EncDecAttention."
        self.assertAlmostEqual(rates[prefix + "q.weight"], 0.001 / 16 ** 0.5)
        self.assertEqual((rates[prefix + "k.weight"], rates[prefix + "o.weight"]), (0.001, 0.02))

    def test_a_gradient_that_is_not_finite_changes_nothing(self):
        import torch
        run = self.make_run("finite", "--steps", "1", "--optimizer", "muon", "--precision", "float32")
        state = {name: p.detach().clone() for name, p in run.session.model.named_parameters()}
        for poisoned in ("shared.weight", "encoder.block.0.layer.1.DenseReluDense.wi.weight"):
            for name, p in run.session.model.named_parameters():
                p.grad = torch.full_like(p, float("nan") if name == poisoned else 1.0)
            self.assertFalse(run.session.optimizers.step(run.session.scaler, 1.0), poisoned)
            self.assertTrue(all(p.equal(state[name]) for name, p in run.session.model.named_parameters()))

    def test_the_course_of_the_rate(self):
        from optim import schedule
        self.assertEqual([schedule(step, 4, 0.0, 0.3) for step in (0, 1, 3, 50)], [0.25, 0.5, 1.0, 1.0])
        self.assertEqual([schedule(99, 4, share, 0.25) for share in (0.5, 0.75, 0.875, 1.0)], [1.0, 1.0, 0.5, 0.0])
        self.assertEqual(schedule(99, 4, 1.0, 0.0), 1.0)


class QuantTest(TrainingTest):
    def test_rounding_is_that_of_the_server(self):
        if "quantize" not in t5("--help"):
            self.skipTest("t5 has no command quantize")
        import fake_quant
        from safetensors import safe_open

        import torch
        run = self.make_run("plain", "--steps", "1", "--store", "float32")
        run.export()
        model, name = self.folder / "plain/model", "encoder.block.0.layer.1.DenseReluDense.wi.weight"
        for kind, rounded in (("int8", fake_quant.int8_rows), ("int4", lambda w: fake_quant.int4_groups(w, 32))):
            t5("quantize", "--model", model, "--to", kind, self.folder / kind)
            with safe_open(model / "model.safetensors", "pt") as file:
                weight = file.get_tensor(name)
            width = json.loads((self.folder / kind / "config.json").read_text())["quantization_config"]["panel"]
            with safe_open(self.folder / kind / "model.safetensors", "pt") as file:
                panels = file.get_tensor(name)
                scales = file.get_tensor(name + "_scale")[0] if kind == "int8" else None
            n_panels, depth = panels.shape[:2]  # the order within: model/panels.h
            if kind == "int4":
                scales = panels[..., :2 * width].contiguous().view(torch.bfloat16).float().permute(0, 2, 1)
                blocks = panels[..., 2 * width:].reshape(n_panels, depth, 4, width, 4)
                numbers = torch.stack([blocks & 15, blocks >> 4], 4).permute(0, 3, 1, 2, 4, 5).float() - 8
                numbers = numbers.reshape(n_panels, width, depth, 32) * scales[..., None]
            else:
                numbers = panels.view(n_panels, depth, width, 4).permute(0, 2, 1, 3).float()
            numbers = numbers.reshape(n_panels * width, -1)[:weight.shape[0], :weight.shape[1]]
            if kind == "int8":
                numbers = numbers * scales.view(-1, 1)
            self.assertLess((rounded(weight) - numbers).abs().max(), 1e-6 * weight.abs().max(), kind)

    def test_gradients_pass_as_if_exact(self):
        import fake_quant
        import torch
        torch.manual_seed(1)
        exact = torch.nn.Linear(64, 8, bias=False)
        x = torch.randn(5, 64)
        for kind, error in (("int8", 0.02), ("int4", 0.3)):
            rounded = torch.nn.Linear(64, 8, bias=False)
            rounded.load_state_dict(exact.state_dict())
            fake_quant.apply(rounded, kind)
            for layer in (exact, rounded):
                layer.zero_grad()
                layer(x).sum().backward()
            difference = (rounded(x) - exact(x)).abs().max().item()
            self.assertTrue(0 < difference < error, f"{kind}: {difference}")
            self.assertLess((rounded.weight.grad - exact.weight.grad).abs().max(), 0.1)
            self.assertEqual(list(rounded.state_dict()), ["weight"])


class WrongUseTest(TrainingTest):
    def test_mistakes_are_named_before_anything_is_done(self):
        shape, steps = ["--shape", TINY], ["--steps", "1"]
        for more, named, code in [
                ([], "one of --init and --shape", 2), (shape, "one of --steps and --minutes", 2),
                ([*shape, *steps, "--tokens", "0"], "--tokens: 0", 2), ([*shape, *steps, "--kl", "2"], "--kl", 2),
                (["--init", self.folder, *steps], "no SentencePiece file", 1),
                (["--init", SOURCE / "models/none", *steps], "none", 1),
                (["--shape", "huge", *steps], "--shape: huge", 1),
                (["--shape", "d_model=32", *steps], "d_ff, d_kv", 1),
                ([*shape, *steps, "--directions", "en-fr"], "train.en-fr.tsv", 1),
                ([*shape, *steps, "--template", "{to}: "], "template", 1),
                ([*shape, *steps, "--device", "abacus"], "--device abacus", 1),
                ([*shape, *steps, "--device", "cpu", "--precision", "float16"], "float16", 1),
                ([*shape, *steps, "--teacher", SOURCE / "models/t5-tatoeba"], "vocab_size 8192", 1)]:
            said = train_here(self.data, self.folder / "wrong", *more, expect=code)
            self.assertIn(named, said)
        self.assertFalse((self.folder / "wrong").exists())


class PageTest(unittest.TestCase):
    """docs/training.md, with the programs under test. Only sizes are changed: (what the page has, what is run)."""

    SMALLER = ((r"--vocab-size \d+", "--vocab-size 300 --valid 20 --test 20"), (r"--steps \d+", "--steps 2"),
               (r"--shape small", "--shape d_model=32,d_ff=64,d_kv=16,num_heads=2,num_layers=2,num_decoder_layers=6"),
               (r"--limit [\d.]+", "--limit 100"))

    def commands(self):
        page = (SOURCE / "docs/training.md").read_text(encoding="utf-8")
        return [line[6:] for line in page.splitlines() if line.startswith("    $ ")]

    def run_one(self, command, folder, port):
        for pattern, smaller in self.SMALLER:
            command = re.sub(pattern, smaller, command)
        words = shlex.split(command.replace(":5000", f":{port}").replace("--port 5000", "--port 0"))
        path = {"python": sys.executable, "t5serve": T5SERVE, "t5": T5}.get(Path(words[0]).name, words[0])
        words[0] = path
        if words[1] in ("train/quality.py", "train/distil.py"):
            words += ["--t5", T5]
        if path == T5SERVE:
            with open(folder / "server.log", "wb") as log:
                return subprocess.Popen(words, cwd=folder, stderr=log)
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait_for(self, server, folder):
        """The port that the server found, once it is ready."""
        until = time.monotonic() + 300
        while True:
            time.sleep(0.1)
            log = (folder / "server.log").read_text(encoding="utf-8")
            self.assertTrue(server.poll() is None and time.monotonic() < until, f"the server is not ready\n{log}")
            port = re.search(r"listening url=\S+?:(\d+)", log)
            with contextlib.suppress(OSError):
                if port and urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/health/ready", timeout=60).read():
                    return port[1]

    def test_every_command(self):
        folder, port = Path(self.enterContext(tempfile.TemporaryDirectory())), 0
        write_pairs(folder / "customer.tsv", many_pairs(700))
        for name in ("train", "models"):
            (folder / name).symlink_to(SOURCE / name)
        commands = self.commands()
        self.assertEqual(len(commands), 10)
        server, said = None, ""
        try:
            for command in commands:
                result = self.run_one(command, folder, port)
                if isinstance(result, subprocess.Popen):
                    server = result
                    port = self.wait_for(server, folder)
                else:
                    said = result
        finally:
            if server is not None:
                server.terminate()
                self.assertEqual(server.wait(timeout=60), 0)
        self.assertIn("translatedText", json.loads(said))


if __name__ == "__main__":
    T5, T5SERVE = (os.path.abspath(path) for path in sys.argv[1:3])
    SOURCE = Path(sys.argv[3]).resolve()
    sys.path.insert(0, str(SOURCE / "train"))
    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other stand still where others need a core too
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
