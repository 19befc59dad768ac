"""What does not change where CLR gets to."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from corridor_exp.optim import CLR
from tests.conftest import small_batch, small_network


def trajectory(
    model: nn.Module, batch: tuple[Tensor, Tensor], loss_scale: float = 1.0, steps: int = 12
) -> list[list[Tensor]]:
    optimizer = CLR(model.parameters())
    points = []
    for _ in range(steps):
        loss = loss_scale * nn.functional.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(loss=loss)
        points.append([p.detach().clone() for p in model.parameters()])
    return points


def test_the_trajectory_does_not_change_when_the_loss_is_scaled() -> None:
    a, b = trajectory(small_network(), small_batch()), trajectory(small_network(), small_batch(), loss_scale=37.0)
    for p, q in zip(a[-1], b[-1], strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


def on_a_quadratic(change: Tensor, steps: int = 10) -> Tensor:
    """Where CLR gets to on E(φ) = ‖A(change·φ)‖²/2 from φ₀ = change⁻¹ θ₀, in the coordinates θ = change·φ."""
    generator = torch.Generator().manual_seed(3)
    A = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    theta = torch.randn(4, generator=generator, dtype=torch.float64)
    phi = nn.Parameter(torch.linalg.solve(change, theta))
    optimizer = CLR([phi])
    for _ in range(steps):
        loss = (A @ change @ phi).square().sum() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(loss=loss)
    return (change @ phi).detach()


def test_rotations_and_one_scale_for_all_parameters_do_not_change_the_trajectory_but_a_scale_each_does() -> None:
    identity = torch.eye(4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]
    plain = on_a_quadratic(identity)
    torch.testing.assert_close(on_a_quadratic(rotation), plain, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(on_a_quadratic(11.0 * identity), plain, rtol=1e-9, atol=1e-12)
    stretched = on_a_quadratic(torch.diag(torch.tensor([1.0, 1.0, 3.0, 3.0], dtype=torch.float64)))
    assert (stretched - plain).norm() > 0.1 * plain.norm()


def test_accumulated_gradients_are_those_of_the_mean_loss() -> None:
    whole, parts = small_network(), small_network()
    x, y = small_batch()
    optimizers = [CLR(whole.parameters()), CLR(parts.parameters())]
    loss = nn.functional.cross_entropy(whole(x), y)
    loss.backward()
    total = torch.zeros((), dtype=torch.float64)
    for cut in (slice(0, 5), slice(5, 12)):
        share = nn.functional.cross_entropy(parts(x[cut]), y[cut]) * len(x[cut]) / len(x)
        share.backward()
        total += share.detach()
    optimizers[0].step(lambda: loss)
    optimizers[1].step(lambda: total)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_two_ranks_of_ddp_take_the_steps_of_one_process_on_the_whole_batch(tmp_path) -> None:
    """Under torchrun, as users have it; the loss that a step is given is the mean over the ranks."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.optim.ddp_rank"]
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, *command, str(tmp_path)], cwd=root, check=True)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    whole = trajectory(small_network(), small_batch(), steps=5)[-1]
    for a, b, p in zip(*(state.values() for state in ranks), whole, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, p, rtol=1e-10, atol=1e-12)
