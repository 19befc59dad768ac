"""The packages' methods against optax's, and what a run asks of them."""

from __future__ import annotations

import builtins
import copy
import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch
from torch import nn

import corridor_exp.optim
from corridor_exp.errors import UsageError
from corridor_exp.optim import CLR, GuardedOptimizer, guarded, rivals

STEPS = 20
RNG = np.random.default_rng(0)
A, B, START = RNG.normal(size=(8, 5)), RNG.normal(size=8), RNG.normal(size=5)


def ours(make: Callable[[list[nn.Parameter]], GuardedOptimizer]) -> tuple[np.ndarray, list[float | None]]:
    """Points and told steps of a least-squares descent in float64."""
    p = nn.Parameter(torch.tensor(START))
    optimizer, points, steps = make([p]), [], []
    for _ in range(STEPS):
        loss = (torch.as_tensor(A) @ p - torch.as_tensor(B)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(lambda loss=loss: loss.detach())
        points.append(p.detach().numpy().copy())
        h = optimizer.step_taken
        steps.append(None if h is None else float(h))
    return np.array(points), steps


def theirs(transformation: optax.GradientTransformationExtraArgs) -> np.ndarray:
    def E(x: jax.Array) -> jax.Array:
        return jnp.square(A @ x - B).mean()

    with jax.enable_x64(True):
        x = jnp.asarray(START)
        state, points = transformation.init(x), []
        for _ in range(STEPS):
            value, grad = jax.value_and_grad(E)(x)
            update, state = optax.with_extra_args_support(transformation).update(grad, state, x, value=value)
            x = optax.apply_updates(x, update)
            points.append(np.asarray(x))
    return np.array(points)


@pytest.mark.parametrize("cap", [0.3, 100.0])
def test_momo_is_optaxs(cap: float) -> None:
    points, steps = ours(lambda p: rivals.momo(p, step_cap=cap))
    np.testing.assert_allclose(points, theirs(optax.contrib.momo(cap)), atol=1e-13)
    assert steps == [None] * STEPS


def test_momo_adam_is_optaxs() -> None:
    points, steps = ours(lambda p: rivals.momo_adam(p, step_cap=0.3))
    np.testing.assert_allclose(points, theirs(optax.contrib.momo_adam(0.3)), atol=1e-6)  # it adds ⟨g, θ⟩ up in float32
    assert steps == [None] * STEPS


@pytest.mark.parametrize("safeguard", [0.5, 20.0])
def test_sps_safe_and_ima_are_their_formulas(safeguard: float) -> None:
    """In numpy: SPS_safe, and heavy-ball momentum whose step takes account of the velocity; then the smaller bound
    binds at some points and the larger at all."""
    bound = 0.1
    for momentum in (0.0, 0.6):
        make = rivals.sps_safe if momentum == 0 else lambda p, **o: rivals.ima(p, momentum=0.6, **o)
        points, steps = ours(lambda p, make=make: make(p, safeguard=safeguard, f_star=bound))
        ratio, before, now, guarded = momentum / (1 - momentum), START, START, []
        for point, told in zip(points, steps, strict=True):
            residual = A @ now - B
            g = 2 * A.T @ residual / 8
            numerator = max((residual**2).mean() - bound + ratio * g @ (now - before), 0)
            h = (1 - momentum) * numerator / max(g @ g, safeguard)
            guarded.append(g @ g < safeguard)
            before, now = now, now + momentum * (now - before) - h * g
            np.testing.assert_allclose(point, now, rtol=1e-7, atol=1e-9)
            assert told == pytest.approx(h, rel=1e-7)
        assert any(guarded)


def test_dog_is_optaxs() -> None:
    points, steps = ours(lambda p: rivals.dog(p, reps_rel=1e-3))
    np.testing.assert_allclose(points, theirs(optax.contrib.dog(1.0, ("heuristic", 1e-3))), atol=1e-13)
    moved = np.linalg.norm(points[1] - points[0])
    residual = A @ points[0] - B
    assert steps[1] == pytest.approx(moved / np.linalg.norm(2 * A.T @ residual / 8), rel=1e-6)


def test_schedule_free_is_optaxs() -> None:
    points, steps = ours(lambda p: rivals.schedule_free(p, lr=0.1))
    np.testing.assert_allclose(points, theirs(optax.contrib.schedule_free_sgd(0.1)), atol=1e-13)
    assert steps == [0.1] * STEPS


def test_prodigy_is_optaxs() -> None:
    """optax corrects the bias as Adam does, which is off in the package and here."""
    from pytorch_optimizer import Prodigy

    points, _ = ours(lambda p: guarded(Prodigy(p, d0=0.01, bias_correction=True)))
    np.testing.assert_allclose(points, theirs(optax.contrib.prodigy(1.0, estim_lr0=0.01)), atol=1e-6)
    points, steps = ours(lambda p: rivals.prodigy(p, d0=0.01, betas=(0.0, 0.0)))
    assert steps[-1] > steps[0] == 0.01
    np.testing.assert_allclose(moved(points), np.sqrt(5) * np.array(steps), rtol=1e-4)  # ±h in each coordinate


@pytest.mark.parametrize("cap", [None, 0.05])
def test_alig_is_clr_but_for_its_delta(cap: float | None) -> None:
    points, steps = ours(lambda p: rivals.alig(p, step_cap=cap))
    expected, told = ours(lambda p: CLR(p, step_cap=cap))
    few = STEPS if cap else 8  # uncapped it is chaotic
    np.testing.assert_allclose(points[:few], expected[:few], rtol=1e-3)
    assert steps[:few] == pytest.approx(told[:few], rel=1e-3)
    assert (cap in steps) == (cap is not None)


def moved(points: np.ndarray) -> np.ndarray:
    """How long each step was."""
    return np.linalg.norm(np.diff(points, axis=0, prepend=START[None]), axis=1)


def test_dadapt_sgd_descends_and_tells_the_step_that_it_took() -> None:
    points, steps = ours(lambda p: rivals.dadapt_sgd(p, d0=0.1))
    before = np.concatenate([START[None], points[:-1]])
    gradients = 2 * (before @ A.T - B) @ A / 8
    np.testing.assert_allclose(moved(points), steps * np.linalg.norm(gradients, axis=1), rtol=1e-6)
    assert np.square(points @ A.T - B).mean(1).min() < 0.5 * np.square(A @ START - B).mean()


def test_mechanic_descends_and_tells_its_scale() -> None:
    points, steps = ours(lambda p: rivals.mechanic(p, s_init=1e-3))
    assert np.square(points @ A.T - B).mean(1).min() < 0.5 * np.square(A @ START - B).mean()
    assert min(steps) >= 0
    assert steps[-1] > 1e-3


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dog", None)
    with pytest.raises(UsageError, match=r"dog is not installed: pip install '\.\[rivals\]' in the checkout"):
        rivals.dog([nn.Parameter(torch.zeros(1))])


def test_nothing_of_the_extra_is_imported_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *args: object, **kwargs: object) -> object:
        assert name.split(".")[0] not in ("pytorch_optimizer", "momo", "dog", "mechanic_pytorch", "sps_safe")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    monkeypatch.setattr(corridor_exp.optim, "rivals", rivals)  # so that it is put back
    monkeypatch.delitem(sys.modules, "corridor_exp.optim.rivals")
    __import__("corridor_exp.optim.rivals")


def test_ima_takes_a_step_of_0_where_its_numerator_is_cut() -> None:
    p = nn.Parameter(torch.tensor([1.0]))
    optimizer = rivals.ima([p], momentum=0.9, safeguard=100.0, f_star=5.0)
    p.grad = torch.tensor([1.0])
    optimizer.step(loss=torch.tensor(1.0))
    assert p.item() == 1.0
    assert optimizer.step_taken == 0


@pytest.mark.parametrize(
    ("make", "name", "old", "new"),
    [
        (rivals.alig, "step_cap", 10.0, 0.01),
        (rivals.momo, "f_star", 0.0, 0.5),
        (partial(rivals.momo_adam, step_cap=100.0), "f_star", 0.0, 0.5),
        (partial(rivals.mechanic, s_init=0.1), "s_decay", 0.01, 0.5),
    ],
)
def test_an_option_is_that_of_the_run_and_not_of_the_checkpoint(
    make: Callable[..., GuardedOptimizer], name: str, old: float, new: float
) -> None:
    """From the same memory, the next step with the new value is another one."""

    def stepped(first: float, second: float) -> torch.Tensor:
        p = nn.Parameter(torch.tensor([1.0, -2.0]))
        before, after = make([p], **{name: first}), make([p], **{name: second})
        for number, optimizer in enumerate((before, after)):
            if number:
                after.load_state_dict(copy.deepcopy(before.state_dict()))
            for _ in range(3):
                p.grad = 2 * p.detach()
                optimizer.step(lambda: p.detach().square().sum())
        return p.detach()

    assert not torch.equal(stepped(old, old), stepped(old, new))


RIVALS = ("alig", "dadapt_sgd", "prodigy", "schedule_free", "momo", "momo_adam", "sps_safe", "ima", "dog", "mechanic")


@pytest.mark.parametrize("name", RIVALS)
def test_a_parameter_without_a_gradient_stays_and_changes_nothing(name: str) -> None:
    """A frozen layer, or one that the loss does not use."""

    def trained(extra: list[nn.Parameter]) -> torch.Tensor:
        p = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = getattr(rivals, name)([p, *extra])
        for _ in range(4):
            optimizer.zero_grad()
            (loss := p.square().sum()).backward()
            optimizer.step(loss=loss.item())  # a number is a loss as well
        return p.detach()

    idle = nn.Parameter(torch.zeros(3))  # DoG's first step depends on the norm of all parameters
    assert torch.equal(trained([idle]), trained([]))
    assert not idle.any()


@pytest.mark.parametrize("make", [rivals.alig, rivals.sps_safe])
def test_below_the_bound_nothing_climbs(make: Callable[..., GuardedOptimizer]) -> None:
    p = nn.Parameter(torch.tensor([1.0]))
    optimizer = make([p])
    p.grad = torch.tensor([2.0])
    optimizer.step(loss=torch.tensor(-1.0))
    assert p.item() == 1.0
