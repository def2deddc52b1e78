"""Training with the rounding errors of small numbers, so that the weights learn to live with them. Needs torch.

The rounding is that of model/quantize.c: int8 has a scale for each row of a weight, int4 one for each group of columns.
The CPU backend also rounds what goes into such a product, each row to 8 bits, so that is done here too.
The gradient passes as if nothing had been rounded.
"""
import torch
import torch.nn.functional as F
from torch import nn

INT4_STEPS = (-8.0, -7.1, -7.4, -7.7, -8.3, -8.6, -8.9, 7.0)  # of the extreme weight, as in model/quantize.c
INT4_GROUP = 32
SMALLEST = 1e-30


def int8_rows(x):
    """Each row as 127 steps to either side of 0."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=SMALLEST) / 127
    return torch.round(x / scale) * scale


def int4_groups(weight, group):
    """Groups of columns as -8 .. 7, with the scale that keeps the least squared error."""
    n_rows, n_columns = weight.shape
    x = F.pad(weight, (0, -n_columns % group)).view(n_rows, -1, group)
    extreme = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    best, best_error = torch.zeros_like(x), torch.full_like(extreme, torch.inf)
    for step in INT4_STEPS:
        scale = (extreme / step).to(torch.bfloat16).float()
        scale = torch.where(scale == 0, torch.full_like(scale, SMALLEST), scale)
        rounded = torch.round(x / scale).clamp(-8, 7) * scale
        error = (rounded - x).square().sum(-1, keepdim=True)
        best = torch.where(error < best_error, rounded, best)
        best_error = torch.minimum(error, best_error)
    return best.view(n_rows, -1)[:, :n_columns]


def straight_through(x, rounded):
    return x + (rounded - x).detach()


class Int8Linear(nn.Linear):
    def rounded_weight(self):
        return int8_rows(self.weight.detach())

    def forward(self, x):
        weight = straight_through(self.weight, self.rounded_weight())
        return F.linear(straight_through(x, int8_rows(x.detach().float()).to(x.dtype)), weight)


class Int4Linear(Int8Linear):
    def rounded_weight(self):
        return int4_groups(self.weight.detach(), INT4_GROUP)


KINDS = {"int8": Int8Linear, "int4": Int4Linear}


def apply(model, kind):
    """Every product with a weight, a head that is the embedding too among them; looking up an embedding stays exact.
    Names and weights of the model do not change."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = KINDS[kind]
