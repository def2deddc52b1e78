"""Optimizers, learning rates and their course. Needs torch.

T5 divides attention scores by nothing: the usual 1/sqrt(d_kv) is part of q's weights, which are smaller by it. A step
of equal size on all weights (AdamW's or Muon's) is therefore sqrt(d_kv) times too large for q; attention then becomes
so sharp that cross-attention no longer learns to align, and the outputs are fluent and unrelated to the source. So q's
learning rate has the factor that its weights have, which is the same as training with the usual scale and putting it
into q at the end. k is left to AdamW as well: Muon would grow it in every direction alike.
"""
import torch

NEW_LR, TUNE_LR, MUON_LR = 1e-3, 1e-4, 0.02
NEW_EMBEDDING_FACTOR = 6.0  # rows of rare pieces get few steps while everything is random
MUON_MATRICES = ("v.weight", "o.weight", "wi.weight", "wi_0.weight", "wi_1.weight", "wo.weight")
SCHEDULE_DECIMALS = 9


def lr_factor(name, config, is_new):
    if name.endswith(".q.weight"):
        return config.d_kv ** -0.5
    if is_new and name in ("shared.weight", "lm_head.weight"):
        return NEW_EMBEDDING_FACTOR
    return 1.0


def is_for_muon(name, parameter):
    return parameter.ndim == 2 and name.rsplit(".", 2)[-2] + ".weight" in MUON_MATRICES


class Optimizers:
    """One or two optimizers as one. step(share) follows the schedule; share is how far the run is, 0 to 1."""

    def __init__(self, model, kind, lr, weight_decay, is_new):
        muon, groups = [], {}
        for name, parameter in model.named_parameters():
            if kind == "muon" and is_for_muon(name, parameter):
                muon.append(parameter)
            else:
                groups.setdefault(lr_factor(name, model.config, is_new), []).append(parameter)
        groups = [{"params": params, "lr": lr * factor} for factor, params in groups.items()]
        self.parts = [torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=weight_decay)]
        if muon:
            self.parts.append(torch.optim.Muon(muon, lr=MUON_LR, weight_decay=0.01, ns_steps=5))
        self.base = [[group["lr"] for group in part.param_groups] for part in self.parts]
        # Muon's steps have a size of their own, whatever the gradient's.
        self.for_muon = muon
        self.clipped = [parameter for group in groups for parameter in group["params"]]

    def set_lr(self, factor):
        for part, base in zip(self.parts, self.base, strict=True):
            for group, lr in zip(part.param_groups, base, strict=True):
                group["lr"] = lr * factor

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, scaler, clip):
        """False when a gradient was not finite and nothing was changed."""
        for part in self.parts:
            scaler.unscale_(part)
        norm = torch.nn.utils.clip_grad_norm_(self.clipped, clip)
        is_finite = bool(torch.isfinite(norm)) and all(bool(torch.isfinite(p.grad).all()) for p in self.for_muon)
        if is_finite:
            for part in self.parts:
                scaler.step(part)
        scaler.update()
        return is_finite

    def state(self):
        return [part.state_dict() for part in self.parts]

    def load(self, states):
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def schedule(step, warmup, share, decay):
    """Up for `warmup` steps, flat, then down to 0 in the last `decay` of the run. A flat part can be made longer."""
    up = min(1.0, (step + 1) / max(warmup, 1))
    down = min(1.0, (1.0 - share) / decay) if decay > 0 else 1.0
    return round(max(up * down, 0.0), SCHEDULE_DECIMALS)
