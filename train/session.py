"""A training run in time: steps, checkpoints, what is said and kept of it. Needs torch."""
import json
import os
import signal
import sys
import time
from pathlib import Path

import texts
import torch
import torch.nn.functional as F
from optim import schedule
from texts import Failure
from tokens import cut_into_batches, padded

CHECKPOINT_VERSION = 1
IGNORED = -100


def to_tensors(examples, batch, config, device):
    """(input ids, attention mask, decoder input ids, labels), each [examples, longest]."""
    pad = config.pad_token_id
    source = torch.from_numpy(padded(examples.sources, batch, pad))
    target = torch.from_numpy(padded(examples.targets, batch, IGNORED))
    start = torch.full((len(batch), 1), config.decoder_start_token_id)
    begun = torch.cat([start, target[:, :-1].masked_fill(target[:, :-1] == IGNORED, pad)], 1)
    # The mask comes from lengths: a model may have the same id for padding and for something else.
    lengths = torch.tensor([len(examples.sources[i]) for i in batch])
    mask = torch.arange(source.shape[1])[None] < lengths[:, None]
    return tuple(t.to(device, non_blocking=True) for t in (source, mask.long(), begun, target))


def token_losses(logits, labels, smoothing=0.0):
    """Sum of the cross-entropy over the labels, in float32."""
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum",
                           label_smoothing=smoothing)


def divergence(logits, teacher_logits, labels):
    """Sum of KL(teacher || student) over the labels: the teacher's whole opinion of each word, not its choice alone."""
    is_label = labels != IGNORED
    student = F.log_softmax(logits.float()[is_label], -1)
    return F.kl_div(student, F.log_softmax(teacher_logits.float()[is_label], -1), reduction="sum", log_target=True)


class Stop:
    """Set by the first Ctrl-C or SIGTERM: the step is finished and kept. A second one ends at once."""

    def __init__(self):
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle)

    def handle(self, number, frame):
        self.is_set = True
        signal.signal(number, signal.SIG_DFL)


class Session:
    """Everything that a checkpoint has to hold for a run that goes on as if it had never stopped."""

    def __init__(self, args, model, optimizers, settings, teacher=None):
        self.args, self.model, self.optimizers, self.settings, self.teacher = args, model, optimizers, settings, teacher
        self.forward = torch.compile(model, dynamic=True) if args.compile else model
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.precision == "float16")
        self.step, self.epoch, self.next_batch, self.n_tokens, self.seconds = 0, 0, 0, 0, 0.0
        self.log, self.best_loss, self.loss = [], None, None
        self.path = Path(args.out) / "checkpoint.pt"
        self.batches_of, self.batches = None, []

    def autocast(self):
        types = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        return torch.autocast(self.device.type, types.get(self.args.precision), enabled=self.args.precision in types)

    def share(self):
        """How far the run is, 0 to 1."""
        if self.args.minutes:
            return min(self.seconds / 60 / self.args.minutes, 1.0)
        return self.step / self.args.steps

    def next_batches(self, examples):
        """The batches of one step; the order depends on the seed and the epoch alone."""
        taken = []
        for _ in range(self.args.accumulate):
            if self.batches_of != self.epoch:
                self.batches = cut_into_batches(examples, self.args.tokens, f"{self.args.seed} {self.epoch}")
                self.batches_of = self.epoch
            taken.append(self.batches[self.next_batch])
            self.next_batch += 1
            if self.next_batch == len(self.batches):
                self.epoch, self.next_batch = self.epoch + 1, 0
        return taken

    def logits(self, forward, tensors):
        source, mask, begun, _ = tensors
        with self.autocast():
            return forward(input_ids=source, attention_mask=mask, decoder_input_ids=begun, use_cache=False).logits

    def batch_loss(self, tensors):
        labels = tensors[3]
        logits = self.logits(self.forward, tensors)
        loss = token_losses(logits, labels, self.args.label_smoothing)
        if self.teacher is not None:
            with torch.no_grad():
                opinion = self.logits(self.teacher, tensors)
            loss = (1 - self.args.kl) * loss + self.args.kl * divergence(logits, opinion, labels)
        return loss

    def train_step(self, examples):
        """One update; the mean loss is over all labels of the accumulated batches. False when it was left out."""
        self.model.train()
        batches = [to_tensors(examples, batch, self.model.config, self.device)
                   for batch in self.next_batches(examples)]
        n_labels = sum(int((tensors[3] != IGNORED).sum()) for tensors in batches)
        self.optimizers.set_lr(schedule(self.step, self.args.warmup, self.share(), self.args.decay))
        self.optimizers.zero_grad()
        total = 0.0
        for tensors in batches:
            loss = self.batch_loss(tensors) / n_labels
            self.scaler.scale(loss).backward()
            total += loss.item()
            self.n_tokens += int(tensors[1].sum()) + int((tensors[3] != IGNORED).sum())
        is_done = self.optimizers.step(self.scaler, self.args.clip)
        self.step += 1
        self.loss = total
        return is_done

    @torch.no_grad()
    def valid_loss(self, examples):
        """Mean over the labels, without smoothing and dropout."""
        self.model.eval()
        total, n_labels = 0.0, 0
        for batch in cut_into_batches(examples, self.args.tokens, "valid"):
            tensors = to_tensors(examples, batch, self.model.config, self.device)
            total += token_losses(self.logits(self.model, tensors), tensors[3]).item()
            n_labels += int((tensors[3] != IGNORED).sum())
        return total / n_labels

    @torch.no_grad()
    def translate(self, examples, numbers, n_beams=1):
        """Ids of what the model says to some examples now; the server is not asked while weights change."""
        self.model.eval()
        source, mask, _, _ = to_tensors(examples, numbers, self.model.config, self.device)
        config = self.model.config
        # transformers 5 makes the decoder's cache as deep as the encoder.
        has_cache = config.num_decoder_layers <= config.num_layers
        with self.autocast():
            return self.model.generate(input_ids=source, attention_mask=mask, num_beams=n_beams, do_sample=False,
                                       use_cache=has_cache, max_new_tokens=self.args.max_tokens).tolist()

    def note(self, **values):
        """A line of OUT/log.jsonl."""
        self.log.append({"step": self.step, **values})
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        (Path(self.args.out) / "log.jsonl").write_text(lines, encoding="utf-8")

    def save(self):
        """Whole or not at all, so that a crash here costs nothing."""
        state = {
            "version": CHECKPOINT_VERSION, "settings": self.settings, "step": self.step, "epoch": self.epoch,
            "next_batch": self.next_batch, "n_tokens": self.n_tokens, "seconds": self.seconds, "log": self.log,
            "best_loss": self.best_loss, "model": self.model.state_dict(), "optimizers": self.optimizers.state(),
            "scaler": self.scaler.state_dict(), "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        torch.save(state, self.path.with_suffix(".new"))
        os.replace(self.path.with_suffix(".new"), self.path)

    def load(self):
        """Goes on from the checkpoint, if there is one; what decides the result must be as it was."""
        if not self.path.exists():
            return False
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            reason = str(error).splitlines()[0]
            raise Failure(f"{self.path}: not a checkpoint: {reason}; --restart begins anew") from error
        for name, value in self.settings.items():
            was = state["settings"].get(name)
            if was != value:
                raise Failure(f"{self.path} was made with {name} {was}, not {value}: give that again, or --restart")
        self.model.load_state_dict(state["model"])
        self.optimizers.load(state["optimizers"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        for name in ("step", "epoch", "next_batch", "n_tokens", "seconds", "log", "best_loss"):
            setattr(self, name, state[name])
        return True


class Progress:
    """One line that is written over on a terminal, else a line each time it is asked."""

    def __init__(self, session):
        self.session = session
        self.begin_tokens, self.begin_seconds = session.n_tokens, session.seconds
        self.is_terminal = sys.stderr.isatty()

    def show(self):
        s = self.session
        seconds = max(s.seconds - self.begin_seconds, 1e-9)
        left = s.seconds / s.share() * (1 - s.share()) if s.share() > 0 else 0
        filled = int(20 * s.share())
        line = (f"[{'#' * filled}{'.' * (20 - filled)}] step {s.step}  epoch {s.epoch + 1}  loss {s.loss:.4f}  "
                f"{(s.n_tokens - self.begin_tokens) / seconds:.0f} tokens/s  {left / 60:.1f} min left")
        print(f"\r{line}\033[K" if self.is_terminal else line, end="" if self.is_terminal else "\n", file=sys.stderr,
              flush=True)

    def say(self, text):
        print(("\r\033[K" if self.is_terminal else "") + text, file=sys.stderr, flush=True)


class Clock:
    """Seconds of training alone, added to the session's."""

    def __init__(self, session):
        self.session, self.last = session, time.monotonic()

    def tick(self):
        before, self.last = self.last, time.monotonic()
        self.session.seconds += self.last - before

    def skip(self):
        """What happened since the last tick was not training."""
        self.last = time.monotonic()


def data_settings(folder, directions):
    """What identifies the training data in a checkpoint: of each direction the file and how often it is read."""
    return {texts.direction_name(d): [texts.sha256_of(texts.pairs_path(folder, "train", d)[0]), directions.count(d)]
            for d in dict.fromkeys(directions)}
