import copy
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from corridor_exp.optim import CLR, CLRMomentum, DecSPS, Polyak, SPSMax
from corridor_exp.optim.descent import Descent


def parameter(*values: float, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def take_step(p: nn.Parameter, E: Callable[[Tensor], Tensor], **options: float) -> CLR:
    optimizer = CLR([p], **options)
    loss = E(p)
    p.grad = None
    loss.backward()
    optimizer.step(lambda: loss)
    return optimizer


@pytest.mark.parametrize("alpha", [0.1, 1.0, 7.0])
def test_reaches_the_apex_of_a_cone_in_one_step(alpha: float) -> None:
    p = parameter(3.0, -4.0, 12.0)
    optimizer = take_step(p, lambda t: alpha * t.norm())
    assert p.norm().item() < 1e-14
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(13 / alpha, rel=1e-14)


def test_f_star_moves_the_goal_and_scale_the_step() -> None:
    p = parameter(5.0)
    take_step(p, lambda t: t.abs().sum() + 2, f_star=2.0)
    assert p.item() == pytest.approx(0, abs=1e-15)
    p = parameter(4.0)
    take_step(p, lambda t: t.square().sum() / 2, scale=0.5)
    assert p.item() == pytest.approx(3.0)  # h = ½ · 8/16


def test_a_loss_below_f_star_never_climbs() -> None:
    p = parameter(1.0)
    optimizer = take_step(p, lambda t: t.sum(), f_star=5.0)
    assert p.item() == 1.0
    assert optimizer.param_groups[0]["lr"].item() == 0


def test_the_cap_binds_only_above_it() -> None:
    for cap, h in ((0.25, 0.25), (10.0, 0.5)):
        optimizer = take_step(parameter(3.0), lambda t: t.square().sum() / 2, step_cap=cap)
        assert optimizer.param_groups[0]["lr"].item() == pytest.approx(h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("loss", "gradient"),
    [(1.0, math.nan), (1.0, math.inf), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (0.0, 0.0)],
)
def test_unsound_steps_leave_every_bit_alone(loss: float, gradient: float, dtype: torch.dtype) -> None:
    params = [parameter(1.0, -2.0, dtype=dtype), parameter(0.5, dtype=dtype)]
    before = copy.deepcopy(params)
    params[0].grad = torch.tensor([gradient, 0.0], dtype=dtype)
    params[1].grad = torch.zeros(1, dtype=dtype)
    optimizer = CLR(params)
    optimizer.step(loss=loss)
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    assert optimizer.param_groups[0]["lr"].item() == 0


def test_a_gradient_too_small_to_square_is_a_zero_gradient() -> None:
    p = parameter(1.0, dtype=torch.float32)
    p.grad = torch.full((1,), 1e-30)
    CLR([p]).step(loss=1.0)
    assert p.item() == 1.0


def test_equals_optax_polyak_sgd_in_lockstep() -> None:
    """Both take their steps from the same points, in float64, with and without the cap binding."""
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(8, 5)), rng.normal(size=8)
    for cap in (1e9, 0.02):
        theirs = optax.polyak_sgd(max_learning_rate=cap, eps=0.0)
        p = parameter(*rng.normal(size=5))
        steps = []
        with jax.enable_x64(True):
            for _ in range(20):
                x = jnp.asarray(p.detach().numpy())
                value, grad = jax.value_and_grad(lambda x: jnp.square(A @ x - b).mean())(x)
                update, _ = theirs.update(grad, theirs.init(x), x, value=value)
                optimizer = take_step(
                    p, lambda t: (torch.as_tensor(A) @ t - torch.as_tensor(b)).square().mean(), step_cap=cap
                )
                np.testing.assert_allclose(p.detach().numpy(), x + update, rtol=1e-12, atol=1e-14)
                steps.append(optimizer.param_groups[0]["lr"].item())
        assert (min(steps) == cap) if cap < 1 else (max(steps) < cap)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    groups=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    exponent=st.integers(-3, 3),
    loss=st.floats(1e-3, 1e3),
)
def test_h_times_squared_norm_is_the_loss(
    seed: int, groups: int, dtype: torch.dtype, exponent: int, loss: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    params = []
    for _ in range(groups):
        p = nn.Parameter(torch.zeros(3, 2, dtype=dtype))
        p.grad = (torch.randn(3, 2, generator=generator) * 10.0**exponent).to(dtype)
        params.append({"params": [p]})
    optimizer = CLR(params)
    optimizer.step(loss=loss)
    grads = [p.grad.double() for group in optimizer.param_groups for p in group["params"]]
    norm_sq = sum(g.square().sum().item() for g in grads)
    for group in optimizer.param_groups:
        assert group["lr"].item() * norm_sq == pytest.approx(loss, rel=1e-4)


def test_gradients_laid_out_otherwise_than_their_parameters() -> None:
    """torch's fused CPU kernel would pair up the wrong elements without a word."""
    p = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    p.grad = torch.randn(4, 3, 2, 2)
    expected = p.detach() - p.grad / p.grad.square().sum()
    CLR([p]).step(loss=1.0)
    torch.testing.assert_close(p.detach(), expected)


def test_complex_parameters_move_as_pairs_of_reals() -> None:
    p = nn.Parameter(torch.tensor([3 + 4j]))
    optimizer = CLR([p])
    loss = p.abs().sum()
    loss.backward()
    optimizer.step(lambda: loss)
    assert p.abs().item() < 1e-6


def test_a_closure_may_compute_the_gradient() -> None:
    p = parameter(2.0)
    optimizer = CLR([p])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.abs().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert p.item() == 0.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="scale"):
        CLR([parameter(1.0)], scale=0)
    with pytest.raises(ValueError, match="step_cap"):
        CLR([parameter(1.0)], step_cap=-1)
    with pytest.raises(TypeError, match="needs the loss"):
        CLR([parameter(1.0)]).step()
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        CLR(embedding.parameters()).step(loss=1.0)


def test_under_a_grad_scaler_the_step_is_that_of_the_unscaled_loss() -> None:
    results = []
    for scaler in (torch.amp.GradScaler("cpu", init_scale=1024.0), None):
        p = parameter(3.0, 4.0, dtype=torch.float32)
        optimizer = CLR([p])
        loss = p.square().sum()
        if scaler:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer, loss=loss)
            scaler.update()
        else:
            loss.backward()
            optimizer.step(loss=loss)
        results.append(p.detach())
    assert torch.equal(*results)


def test_multipliers_share_out_the_expected_gain() -> None:
    """Σ hᵢ‖gᵢ‖² = E, hᵢ = mᵢ h: the linear model of the loss still reaches 0."""
    a, b = parameter(3.0, 1.0), parameter(2.0)
    optimizer = CLR([{"params": [a], "multiplier": 0.5}, {"params": [b], "multiplier": 4.0}])
    loss = a.square().sum() + b.pow(4).sum()
    loss.backward()
    optimizer.step(loss=loss)
    h = [group["lr"].item() for group in optimizer.param_groups]
    assert h[1] == pytest.approx(8 * h[0])
    gain = h[0] * a.grad.square().sum() + h[1] * b.grad.square().sum()
    assert gain.item() == pytest.approx(loss.item(), rel=1e-14)
    assert b.item() == pytest.approx(2.0 - h[1] * b.grad.item())
    assert optimizer.grad_norm_sq.item() == pytest.approx((a.grad.square().sum() + b.grad.square().sum()).item())


@pytest.mark.parametrize("kind", [CLR, CLRMomentum, Polyak, SPSMax, partial(SPSMax, smooth=True), DecSPS])
def test_to_maximize_is_to_minimize_the_negative(kind: Callable[..., Descent]) -> None:
    up, down = parameter(1.0, 2.0), parameter(1.0, 2.0)
    climbing, falling = kind([up], f_star=3.0, maximize=True), kind([down], f_star=-3.0)
    for _ in range(5):
        for p, optimizer, sign in ((up, climbing, 1), (down, falling, -1)):
            loss = sign * (3 - (p - 0.3).square().sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(loss=loss)
    assert torch.equal(up, down)
    assert (up - 0.3).norm() < 0.5


def test_a_batch_may_have_a_bound_of_its_own() -> None:
    p = parameter(3.0)
    loss = p.square().sum() + 1
    loss.backward()
    optimizer = CLR([p])
    optimizer.step(loss=loss, f_star=torch.tensor(1.0))
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(9 / 36)


@pytest.mark.filterwarnings("ignore:.*schedule")
def test_a_scheduler_that_overwrites_the_step_and_max_lr_changes_nothing() -> None:
    ends = []
    for scheduled in (False, True):
        p = parameter(4.0, -3.0)
        optimizer = CLR([p], step_cap=0.3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=9, cycle_momentum=False)
        for _ in range(8):
            loss = p.pow(4).sum() / 4
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(loss=loss)
            if scheduled:
                schedule.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_the_step_survives_a_checkpoint(tmp_path) -> None:
    p = parameter(3.0)
    optimizer = take_step(p, lambda t: t.square().sum())
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = CLR([parameter(1.0)])
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
