import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from corridor_exp.optim import CLR, GuardedOptimizer, contract, guarded

TORCHS = {
    name: kind
    for name in torch.optim.__all__
    if isinstance(kind := getattr(torch.optim, name), type) and kind is not torch.optim.Optimizer
}
REFUSED = {"LBFGS": "evaluates the loss anew", "SparseAdam": "sparse gradients", "Muon": "only supports 2D parameters"}


def torchs(name: str) -> Callable[[list[nn.Parameter]], GuardedOptimizer]:
    return lambda p: guarded(TORCHS[name](p, lr=0.1))


OPTIMIZERS = {
    "clr": CLR,
    "momentum": lambda p: guarded(torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
    **{name: torchs(name) for name in TORCHS if name not in REFUSED},
}


def state_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [t.clone() for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("loss", "gradient"), [(1.0, math.nan), (1.0, math.inf), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0)]
)
@pytest.mark.parametrize("on_device", [False, True])
def test_nothing_unsound_reaches_parameters_or_state(
    monkeypatch: pytest.MonkeyPatch, name: str, loss: float, gradient: float, on_device: bool
) -> None:
    """On the host the adapter decides; on a device, whose numbers nobody waits for, torch's fused kernels do."""
    if on_device:
        monkeypatch.setattr(contract, "scalar", lambda number: number)
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = OPTIMIZERS[name]([p])
    for _ in range(2):
        p.grad = torch.tensor([0.5, -0.5])
        optimizer.step(loss=torch.tensor(1.0))
    before, state = copy.deepcopy(p), state_of(optimizer)
    p.grad = torch.tensor([gradient, 0.0])
    optimizer.step(loss=torch.tensor(loss))
    assert torch.equal(p, before)
    assert all(torch.equal(a, b) for a, b in zip(state, state_of(optimizer), strict=True))
    p.grad = torch.tensor([0.5, -0.5])
    optimizer.step(loss=torch.tensor(1.0))
    assert not torch.equal(p, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_squared_gradient_norm_is_left_behind(name: str) -> None:
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    optimizer = OPTIMIZERS[name]([p])
    optimizer.step(lambda: torch.tensor(1.0))
    assert optimizer.grad_norm_sq.item() == pytest.approx(25)


@pytest.mark.parametrize("name", TORCHS)
def test_a_run_takes_every_optimizer_of_torch_or_refuses_it_in_one_line(
    name: str, digits_run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = tmp_path / "own" / "optim" / "mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(f"name: mine\n_target_: torch.optim.{name}\nlr: 0.01\n")
    run = [f"--config-dir={tmp_path / 'own'}", "optim=mine", "probe=none", "max_steps=3", f"out_dir={tmp_path / 'run'}"]
    code = digits_run(*run)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if name not in REFUSED:
        assert code == 0
        return
    assert code == 2
    (line,) = [line for line in said.splitlines() if f"optim._target_=torch.optim.{name}" in line]
    assert REFUSED[name] in line
    assert not (tmp_path / "run" / "records.jsonl").exists()


def test_only_torchs_own_class_is_trusted_to_skip_an_update_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass may do more in a step than its fused kernel."""

    class Counting(torch.optim.SGD):
        steps = 0

        def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
            self.steps += 1
            super().step(closure)

    monkeypatch.setattr(contract, "scalar", lambda number: number)
    p = nn.Parameter(torch.ones(2))
    counting = Counting([p], lr=0.1, fused=True)
    p.grad = torch.tensor([math.nan, 1.0])
    guarded(counting).step(loss=1.0)
    assert counting.steps == 0


def test_an_adapter_is_a_torch_optimizer_that_can_be_scheduled() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = guarded(torch.optim.SGD([p], lr=1.0))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for h in (1.0, 0.5, 0.25):
        optimizer.zero_grad()
        assert optimizer.step_taken == h
        optimizer.step(lambda: p.sum().backward() or 1.0)
        schedule.step()
    assert p.tolist() == [-0.75, -0.75]
    with pytest.raises(TypeError, match=r"step\(loss=loss\)"):
        optimizer.step()


def test_a_first_step_that_is_skipped_leaves_no_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device, where torch's kernel would leave its new buffers without values."""
    monkeypatch.setattr(contract, "scalar", lambda number: number)
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = guarded(torch.optim.SGD([p], lr=1.0, momentum=0.9, fused=True))
    for gradient in (math.inf, 2.0, 1.0):
        p.grad = torch.full_like(p, gradient)
        optimizer.step(loss=torch.tensor(1.0))
    assert torch.equal(p, torch.full_like(p, -(2.0 + 0.9 * 2.0 + 1.0)))
