"""Modules of many kinds, by name, each with a plain one that has the same E."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module, reentrant: bool | None) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x) if self.reentrant is None else checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return y


class Counting(nn.Module):
    """Has a state, of which torch knows nothing."""

    hidden: Tensor | float = 0.0
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.hidden = (0.5 * self.hidden + x.mean()).detach()
        return self.calls * x + self.hidden


class Target(nn.Module):
    """Moves a parameter that gets no gradient, and assigns a buffer anew."""

    def __init__(self) -> None:
        super().__init__()
        self.online, self.target = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(()))

    @torch.no_grad()
    def follow(self) -> None:
        self.target.weight.mul_(0.9).add_(self.online.weight, alpha=0.1)
        self.mean = 0.9 * self.mean + 0.1 * self.target.weight.mean()

    def forward(self, x: Tensor) -> Tensor:
        self.follow()
        y: Tensor = self.online(x) + self.target(x).detach() + self.mean
        return y


class Alias(nn.Module):
    """Has its parameter in a list too, and that is where it takes it from."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.parts = [self.weight]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.parts[0]


class Limited(nn.Module):
    """Shortens the rows of its table when it reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 3, max_norm=0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.table((x > 0).long()).sum(1)
        return y


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x.view(-1, 2, 2))[0][:, -1]
        return y


class Attention(nn.Module):
    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.attention, self.fused = nn.MultiheadAttention(2, 1, batch_first=True), fused

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 2, 2)
        y: Tensor = self.attention(x, x, x, need_weights=not self.fused)[0].flatten(1)
        return y


def inside(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), *layers, nn.Tanh(), nn.Linear(4, 3))


def twice(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Tanh(), *layers, nn.Tanh(), nn.Linear(4, 3))


def tied(plain: bool) -> nn.Module:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    return nn.Sequential(a, nn.Tanh(), b, nn.Linear(4, 3))


def frozen(plain: bool) -> nn.Module:
    model = inside(nn.Linear(4, 4))
    model[0].requires_grad_(False)
    return model


def hooked(plain: bool) -> nn.Module:
    """Its gradients are changed on their way into `p.grad`."""
    model = inside(nn.Linear(4, 4))
    if not plain:
        model[0].weight.register_hook(lambda g: 2 * g)
    return model


def checkpointed(
    reentrant: bool, *between: Callable[[], nn.Module], first: bool = False
) -> Callable[[bool], nn.Module]:
    def build(plain: bool) -> nn.Module:
        layers = nn.Sequential(nn.Linear(4, 4), *(make() for make in between), nn.Tanh())
        part = Checkpointed(layers, None if plain else reentrant)
        return nn.Sequential(part, nn.Linear(4, 3)) if first else inside(part)

    return build


Build = Callable[[bool], nn.Module]  # of the module itself, or of the plain one that has the same E
ZOO: dict[str, Build] = {
    "tied weights": tied,
    "a module under two names": lambda plain: twice(nn.Linear(4, 4)),
    "batch norm under two names": lambda plain: twice(nn.Linear(4, 4), nn.BatchNorm1d(4)),
    "frozen": frozen,
    "a parameter's hook": hooked,
    "weight norm": lambda plain: inside(parametrizations.weight_norm(nn.Linear(4, 4))),
    "weight norm of one norm": lambda plain: inside(parametrizations.weight_norm(nn.Linear(4, 4), dim=None)),
    "weight norm by a hook": lambda plain: inside(nn.utils.weight_norm(nn.Linear(4, 4))),
    "orthogonal": lambda plain: inside(parametrizations.orthogonal(nn.Linear(4, 4))),
    "pruned": lambda plain: inside(prune.random_unstructured(nn.Linear(4, 4), "weight", 5)),
    "an alias": lambda plain: inside(Alias()),
    "LSTM": lambda plain: Recurrent(),
    "attention": lambda plain: nn.Sequential(Attention(), nn.Linear(4, 3)),
}
for reentrant in (False, True):
    ZOO |= {
        f"checkpoint, {reentrant=}": checkpointed(reentrant),
        f"checkpoint of the first layer, {reentrant=}": checkpointed(reentrant, first=True),
        f"checkpoint of batch norm, {reentrant=}": checkpointed(reentrant, partial(nn.BatchNorm1d, 4)),
        f"checkpoint of dropout, {reentrant=}": checkpointed(reentrant, partial(nn.Dropout, 0.3)),
    }
# Of these torch differentiates only a part: E depends on θ under `no_grad` or behind a `detach` too.
PARTLY: dict[str, Build] = {
    "spectral norm": lambda plain: inside(parametrizations.spectral_norm(nn.Linear(4, 4))),
    "spectral norm by a hook": lambda plain: inside(nn.utils.spectral_norm(nn.Linear(4, 4))),
    "a state": lambda plain: inside(Counting()),
    "a target": lambda plain: inside(Target()),
    "limited rows": lambda plain: Limited(),
}


def made(build: Build, plain: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return build(plain).double()
