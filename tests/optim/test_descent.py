"""What all optimizers of our own share, beyond what test_clr says of CLR."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from corridor_exp.optim import (
    CDAT,
    CLR,
    DAL,
    NGN,
    CLRMomentum,
    DecSPS,
    Descent,
    HazanKakade,
    NGNMomentum,
    Polyak,
    ScheduleFreePolyak,
    SPSMax,
)


def looked(optimizer: Descent) -> Descent:
    """After a look at the Hessian, where the optimizer needs one."""
    one = torch.ones((), device=optimizer.param_groups[0]["params"][0].device)
    if isinstance(optimizer, DAL):
        optimizer.ratio = one
    if isinstance(optimizer, CDAT):
        optimizer.measured = one, 2 * one
    return optimizer


OURS: dict[str, Callable[[list[nn.Parameter]], Descent]] = {
    "clr": lambda p: CLR(p, step_cap=1.0),
    "clr_momentum": CLRMomentum,
    "polyak": lambda p: Polyak(p, f_star=0.1),
    "sps_max": SPSMax,
    "sps_max smooth": lambda p: SPSMax(p, smooth=True),
    "decsps": DecSPS,
    "hazan_kakade": HazanKakade,
    "dal": lambda p: looked(DAL(p)),
    "cdat": lambda p: looked(CDAT(p)),
    "ngn": NGN,
    "ngn_momentum": NGNMomentum,
    "schedule_free_polyak": ScheduleFreePolyak,
}


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
@pytest.mark.parametrize(("loss", "gradient"), [(1.0, math.nan), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0)])
def test_nothing_unsound_reaches_the_parameters(make: Callable[..., Descent], loss: float, gradient: float) -> None:
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = make([p])
    p.grad = torch.tensor([gradient, 0.0])
    optimizer.step(loss=loss)
    assert p.tolist() == [1.0, 2.0]
    assert optimizer.param_groups[0]["lr"].item() == 0


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_parameters_move_by_the_step_that_is_told(
    make: Callable[..., Descent], dtype: torch.dtype, device: str
) -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype, device=device))
    optimizer = make([p])
    p.grad = torch.tensor([0.5, 0.25], dtype=dtype, device=device)
    optimizer.step(lambda: torch.tensor(0.25, device=device))
    h = optimizer.param_groups[0]["lr"]
    assert h.item() > 0
    expected = torch.tensor([1.0, -2.0], dtype=torch.float64) - h.item() * torch.tensor([0.5, 0.25]).double()
    # (The CUDA kernel takes the step as a float32.)
    tolerance = {torch.float64: 1e-7 if device == "cuda" else 1e-15, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(p.detach().cpu().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.cuda
@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_a_step_never_waits_for_the_device(make: Callable[..., Descent]) -> None:
    p = nn.Parameter(torch.randn(1000, device="cuda"))
    optimizer = make([p])
    loss = p.square().sum()
    loss.backward()
    optimizer.step(lambda: loss)
    looked(optimizer)
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step(lambda: loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def what_is_said(optimizer: Descent, closure: Callable[[], object], steps: int = 3) -> list[str]:
    """The warnings of a few steps, of which Python shows each once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(steps):
            optimizer.step(closure)
    return [str(warning.message) for warning in said]


def test_a_schedule_is_said_once_to_change_nothing() -> None:
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = CLR([p])
    p.grad = torch.ones(2)
    assert what_is_said(optimizer, lambda: 1.0) == []
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    (said,) = what_is_said(optimizer, lambda: 1.0)
    assert said == "CLR computes its own step: a learning-rate schedule changes nothing"


def test_a_loss_in_the_closures_place_is_told_its_name() -> None:
    p = nn.Parameter(torch.ones(2))
    loss = p.square().sum()
    loss.backward()
    for given in (loss, loss.item()):
        with pytest.raises(TypeError, match=r"CLR.*step\(loss=loss\)"):
            CLR([p]).step(given)
    assert p.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_closure_that_adds_to_an_earlier_gradient_is_noticed(set_to_none: bool) -> None:
    """Then its loss is rarely the one that the gradient belongs to. A closure with the whole gradient is left alone."""
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = CLR([p], step_cap=1e-3)

    def part() -> torch.Tensor:
        loss = p.square().sum() / 2
        loss.backward()
        return loss

    def whole() -> torch.Tensor:
        optimizer.zero_grad(set_to_none)
        return part() + part()

    part()
    assert len(what_is_said(optimizer, part)) == 1
    assert what_is_said(optimizer, whole) == []
    optimizer.zero_grad(set_to_none)
    total = part() + part()
    assert what_is_said(optimizer, lambda: total) == []


@pytest.mark.parametrize("make", [ScheduleFreePolyak, lambda p: HazanKakade(p, adaptive=True)])
def test_a_group_may_come_later(make: Callable[[list[nn.Parameter]], Descent]) -> None:
    p, q = (nn.Parameter(torch.tensor([2.0])) for _ in range(2))
    optimizer = make([p])
    optimizer.add_param_group({"params": [q]})
    for _ in range(3):
        optimizer.zero_grad()
        (loss := p.square().sum() + q.square().sum()).backward()
        optimizer.step(loss=loss.detach())
    assert q.item() < 2
