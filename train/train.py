#!/usr/bin/env python3
"""Trains a T5 translation model and writes a folder that t5serve loads.

    train/train.py DATA OUT --shape tiny --steps 20000                     from scratch
    train/train.py DATA OUT --init ~/models/t5-small --steps 3000          fine-tuning of any Hugging Face T5
    train/train.py DATA OUT --init OUT0/model --fake-quant int8 --steps 500    so that int8 costs less
    train/train.py STUDENT OUT --init TEACHER --keep-decoder-layers 0,5 --teacher TEACHER --kl 0.5 --steps 5000

DATA is made by prepare.py or distil.py. OUT gets model/, the folder to serve: the state with the lowest loss on the
valid sentences so far; log.jsonl; checkpoint.pt. The same command again goes on from the checkpoint, with the same
losses as if it had never stopped; Ctrl-C or SIGTERM stops after the step. docs/training.md has the whole way.
"""
import argparse
import random
import sys
import textwrap
from pathlib import Path

import texts
from texts import Failure

NEW_DROPOUT = 0.1
SAMPLE_CHARS = 160


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path, help="folder with {train,valid}.SOURCE-TARGET.tsv")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    add_model_options(parser.add_argument_group("the model"))
    add_course_options(parser.add_argument_group("the course"))
    add_report_options(parser.add_argument_group("what is kept and said"))
    args = parser.parse_args()
    check(parser, args)
    return args


def add_model_options(group):
    group.add_argument("--init", metavar="DIR", type=Path, help="Hugging Face folder to begin with")
    group.add_argument("--shape", metavar="SHAPE", help="from scratch: tiny, small, base, with changes such as "
                       "small,num_decoder_layers=2, or d_model=N,d_ff=N,... ; the tokenizer is DATA's")
    group.add_argument("--gated", action="store_true", help="with --shape: T5 v1.1 (gated GELU), else v1.0 (ReLU)")
    group.add_argument("--keep-encoder-layers", metavar="LIST", help="of --init, such as 0,2,4: a smaller model")
    group.add_argument("--keep-decoder-layers", metavar="LIST", help="the same of the decoder")
    group.add_argument("--directions", metavar="LIST",
                       help="such as en-de,de-en (default: as the training files are named); one that stands there "
                            "twice is learnt from twice as often")
    group.add_argument("--template", help="what stands before each sentence, as in t5serve.json (default: that of "
                       f"--init, else DATA's, else '{texts.TEMPLATE}')")
    group.add_argument("--dropout", type=float, metavar="X", help="default 0.1")
    group.add_argument("--fake-quant", choices=("int8", "int4"), help="train with the rounding errors of such weights")
    group.add_argument("--teacher", metavar="DIR", type=Path, help="model of the same vocabulary to learn from")
    group.add_argument("--kl", type=float, default=0.5, metavar="X",
                       help="with --teacher: share of its opinion in the loss, the rest is the text's (default 0.5)")


def add_course_options(group):
    group.add_argument("--steps", type=int, metavar="N", help="updates in all")
    group.add_argument("--minutes", type=float, metavar="X", help="of training in all, instead of --steps")
    group.add_argument("--tokens", type=int, default=4096, metavar="N", help="of a batch, with padding (default 4096)")
    group.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches of an update (default 1)")
    group.add_argument("--max-tokens", type=int, default=128, metavar="N", help="longest sentence (default 128)")
    group.add_argument("--lr", type=float, metavar="X", help="AdamW's (default 0.001 from scratch, 0.0001 with --init)")
    group.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw",
                       help="muon: for most matrices; fewer steps from scratch, a tenth more time for each")
    group.add_argument("--weight-decay", type=float, default=0.01, metavar="X", help="AdamW's (default 0.01)")
    group.add_argument("--warmup", type=int, default=200, metavar="N", help="steps until the full rate (default 200)")
    group.add_argument("--decay", type=float, default=0.3, metavar="X",
                       help="share of the run in which the rate falls to 0 (default 0.3)")
    group.add_argument("--label-smoothing", type=float, default=0.1, metavar="X", help="default 0.1")
    group.add_argument("--clip", type=float, default=1.0, metavar="X", help="largest norm of the gradient (default 1)")
    group.add_argument("--seed", type=int, default=1, metavar="N", help="default 1")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or auto (default auto)")
    group.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto",
                       help="of products (default auto: bfloat16 where the processor has it). The residual stream of "
                            "FLAN-T5, mT5 and MADLAD-400 does not fit into float16")
    group.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: torch's)")
    group.add_argument("--compile", action="store_true", help="torch.compile: minutes at the start, then faster")


def add_report_options(group):
    group.add_argument("--valid-every", type=int, default=500, metavar="N", help="steps (default 500)")
    group.add_argument("--samples", type=int, default=3, metavar="N", help="valid sentences translated (default 3)")
    group.add_argument("--log-every", type=int, default=50, metavar="N", help="steps (default 50)")
    group.add_argument("--save-every", type=int, default=500, metavar="N", help="steps to a checkpoint (default 500)")
    group.add_argument("--restart", action="store_true", help="begin anew although there is a checkpoint")
    group.add_argument("--name", help="of the model (default: OUT's)")
    group.add_argument("--store", choices=("float16", "bfloat16", "float32"), default="float16",
                       help="numbers of the written weights (default float16)")


def check(parser, args):
    """Mistakes that need no model to be seen."""
    if bool(args.init) == bool(args.shape):
        parser.error("one of --init and --shape")
    if bool(args.steps) == bool(args.minutes):
        parser.error("one of --steps and --minutes")
    if args.gated and not args.shape:
        parser.error("--gated is for --shape; --init has its own form")
    if (args.keep_encoder_layers or args.keep_decoder_layers) and not args.init:
        parser.error("--keep-...-layers are layers of --init")
    for name in ("steps", "minutes", "tokens", "accumulate", "lr", "clip", "valid_every", "log_every", "save_every",
                 "threads"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')}: {value} is not above 0")
    for name in ("dropout", "kl", "decay", "label_smoothing"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            parser.error(f"--{name.replace('_', '-')}: {value} is not from 0 to 1")
    if args.max_tokens < 2:
        parser.error(f"--max-tokens: {args.max_tokens} is less than 2: the end of a sequence is a token too")


def pick_device(args, torch):
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(args.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise Failure(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    is_cuda = device.type == "cuda"
    if args.precision == "auto":
        has_bfloat16 = has_fast_bfloat16(torch, is_cuda)
        args.precision = "bfloat16" if has_bfloat16 else "float32"
    if args.precision == "float16" and not is_cuda:
        raise Failure("--precision float16 is for GPUs; CPUs have bfloat16 or float32")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # they halve a CPU's speed once softmaxes are peaked
    return device


def has_fast_bfloat16(torch, is_cuda):
    """Processors without matrix units for it only emulate it; torch would count that of older GPUs."""
    if is_cuda:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()


def find_directions(args):
    if args.directions:
        return [texts.parse_direction(word) for word in args.directions.split(",")]
    return texts.directions_of(args.data, "train")


def find_template(args):
    if args.template is not None:
        return args.template
    paths = [args.data / "manifest.json"]
    if args.init:
        paths.insert(0, args.init / "t5serve.json")
    for path in paths:
        if path.exists() and "template" in texts.read_json(path):
            return texts.read_json(path)["template"]
    return texts.TEMPLATE


def make_model(args, tokenizer, models):
    if args.shape:
        dropout = NEW_DROPOUT if args.dropout is None else args.dropout
        return models.new_model(models.parse_shape(args.shape), args.gated, tokenizer.n_pieces, dropout)
    model = models.open_model(args.init, args.dropout)
    for stack, keep in (("encoder", args.keep_encoder_layers), ("decoder", args.keep_decoder_layers)):
        if keep:
            if not all(word.isdigit() for word in keep.split(",")):
                raise Failure(f"--keep-{stack}-layers: {keep}: numbers such as 0,2,4")
            model = models.with_layers(model, stack, [int(word) for word in keep.split(",")])
    return model


def open_teacher(args, model, models):
    teacher = models.open_model(args.teacher)
    for name in ("vocab_size", "decoder_start_token_id", "eos_token_id", "pad_token_id"):
        ours, theirs = getattr(model.config, name), getattr(teacher.config, name)
        if ours != theirs:
            raise Failure(f"--teacher {args.teacher}: {name} {theirs}, the student's is {ours}")
    return teacher.eval().requires_grad_(False)


def settings_of(args, directions, template, model):
    """What a checkpoint must agree in, under the names of the options."""
    from session import data_settings
    names = ("tokens", "accumulate", "max_tokens", "lr", "optimizer", "weight_decay", "warmup", "label_smoothing",
             "clip", "seed", "precision", "fake_quant")
    settings = {"--" + name.replace("_", "-"): getattr(args, name) for name in names}
    shape = ("d_model", "d_ff", "d_kv", "num_heads", "num_layers", "num_decoder_layers", "vocab_size", "dropout_rate")
    settings["the shape"] = {key: getattr(model.config, key) for key in shape}
    settings["the template"] = template
    settings["--teacher"] = str(args.teacher) if args.teacher else None
    settings["--kl"] = args.kl if args.teacher else None
    settings["the training data"] = data_settings(args.data, directions)
    return settings


class Run:
    """The parts of one run, made in the order in which their mistakes are found: cheap ones first."""

    def __init__(self, args):
        self.args = args
        weighted = find_directions(args)
        self.directions, self.template = list(dict.fromkeys(weighted)), find_template(args)
        import models
        import tokens
        import torch
        self.models, self.device = models, pick_device(args, torch)
        self.tokenizer = tokens.open_tokenizer(args.init or args.data)
        torch.manual_seed(args.seed)
        model = make_model(args, self.tokenizer, models).to(self.device)
        if self.tokenizer.n_pieces > model.config.vocab_size:
            raise Failure(f"the tokenizer has {self.tokenizer.n_pieces} pieces, the model {model.config.vocab_size}")
        teacher = open_teacher(args, model, models).to(self.device) if args.teacher else None
        self.train = self.read("train", weighted, model.config.eos_token_id)
        self.valid = self.read("valid", self.directions, model.config.eos_token_id)
        if len(self.train) == 0:
            raise Failure(f"{args.data}: no sentence of at most --max-tokens {args.max_tokens} to train on")
        self.session = self.make_session(model, teacher, weighted)

    def read(self, split, directions, eos):
        from tokens import Examples
        return Examples(self.args.data, split, directions, self.tokenizer, self.template, eos, self.args.max_tokens)

    def make_session(self, model, teacher, weighted):
        import fake_quant
        import optim
        from session import Session
        args = self.args
        args.lr = args.lr or (optim.NEW_LR if args.shape else optim.TUNE_LR)
        if args.fake_quant:
            fake_quant.apply(model, args.fake_quant)
        optimizers = optim.Optimizers(model, args.optimizer, args.lr, args.weight_decay, is_new=bool(args.shape))
        settings = settings_of(args, weighted, self.template, model)
        return Session(args, model, optimizers, settings, teacher)

    def introduce(self, say):
        n = sum(parameter.numel() for parameter in self.session.model.parameters())
        left_out = self.train.n_left_out + self.valid.n_left_out
        say(f"{n / 1e6:.1f} M parameters, {self.device} {self.args.precision}; {len(self.train)} examples, "
            f"{self.train.n_tokens() / 1e6:.1f} M tokens an epoch; {len(self.valid)} valid"
            + (f"; {left_out} longer than --max-tokens left out" if left_out else ""))

    def is_over(self):
        return self.session.share() >= 1.0

    def show_samples(self, say):
        """The same few valid sentences each time."""
        chosen = random.Random(0).sample(range(len(self.valid)), min(self.args.samples, len(self.valid)))
        if not chosen:
            return
        for number, ids in zip(chosen, self.session.translate(self.valid, chosen), strict=True):
            eos = self.session.model.config.eos_token_id
            ids = ids[1:ids.index(eos)] if eos in ids else ids[1:]
            direction, source, reference = self.valid.lines[number]
            said = textwrap.shorten(self.tokenizer.decode(ids), SAMPLE_CHARS, placeholder=" ...")
            say(f"  {texts.direction_name(direction)}  {source}  ->  {said}  (reference: {reference})")

    def judge(self, say):
        """Valid loss and samples; the best state so far becomes OUT/model."""
        session = self.session
        if len(self.valid) == 0:
            return self.export() if self.is_over() else None
        loss = session.valid_loss(self.valid)
        session.note(valid_loss=loss)
        is_best = session.best_loss is None or loss < session.best_loss
        say(f"step {session.step}: valid loss {loss:.4f}" + (", the lowest so far" if is_best else ""))
        self.show_samples(say)
        if is_best:
            session.best_loss = loss
            self.export()
        return None

    def export(self):
        from card import card, profile
        args = self.args
        name = args.name or args.out.resolve().name
        self.models.export(self.session.model, args.out / "model", store=args.store, tokenizer=self.tokenizer,
                           init=args.init, profile=profile(name, self.template, self.directions),
                           card=card(name, args.data, self.session, self.directions))

    def go(self):
        from session import Clock, Progress, Stop
        session, args = self.session, self.args
        args.out.mkdir(parents=True, exist_ok=True)
        has_resumed = not args.restart and session.load()
        stop, progress, clock = Stop(), Progress(session), Clock(session)
        self.introduce(progress.say)
        if has_resumed:
            progress.say(f"goes on from {session.path}, step {session.step}")
            if self.is_over():
                progress.say("it was complete; more --steps or --minutes continue it")
                return
        while not self.is_over() and not stop.is_set:
            if not session.train_step(self.train):
                progress.say(f"step {session.step}: a gradient is not finite; the step was left out")
            clock.tick()
            if session.step % args.log_every == 0:
                session.note(loss=session.loss)
            if session.step % args.log_every == 0 or progress.is_terminal:
                progress.show()
            if session.step % args.valid_every == 0 and not self.is_over():
                self.judge(progress.say)
                clock.skip()
            if session.step % args.save_every == 0:
                session.save()
        if stop.is_set and not self.is_over():
            session.save()
            progress.say(f"stopped after step {session.step}; the same command goes on")
            return
        self.judge(progress.say)
        session.save()
        progress.say(f"{args.out / 'model'} is ready: t5serve --model {args.out / 'model'}")


def main():
    args = parse()
    Run(args).go()


if __name__ == "__main__":
    sys.exit(texts.run(main))
