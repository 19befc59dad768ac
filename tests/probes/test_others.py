"""Sharpness and drift."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import ArpackError
from torch.func import functional_call

from corridor_exp.config.logs import log_to_stderr
from corridor_exp.objective import Batch, Objective
from corridor_exp.probes import Drift, Sharpness
from corridor_exp.runs import records
from corridor_exp.theory.vectors import flat
from tests.conftest import ANY_BATCH, Surface, mean, small_batch, small_network

THETA = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
A = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))


def test_sharpness_is_the_top_of_the_dense_spectrum() -> None:
    model, batch = small_network("batch"), small_batch()
    names = [n for n, _ in model.named_parameters()]
    params = [p.detach() for p in model.parameters()]

    def E(theta: torch.Tensor) -> torch.Tensor:
        parts = [t.view_as(p) for t, p in zip(theta.split([p.numel() for p in params]), params, strict=True)]
        buffers = {n: b.clone() for n, b in model.named_buffers()}
        return F.cross_entropy(
            functional_call(model, {**dict(zip(names, parts, strict=True)), **buffers}, (batch.x,)), batch.y
        )

    spectrum = torch.linalg.eigvalsh(torch.autograd.functional.hessian(E, flat(params)))
    probe = Sharpness(images="batch", count=3, tolerance=1e-8)
    for _ in range(2):  # the second look starts from the eigenvector of the first
        seen = probe.look(Objective(model), batch)
        values = [seen[k].item() for k in ("probe/sharpness", "probe/sharpness_2", "probe/sharpness_3")]
        assert values == pytest.approx(spectrum.flip(0)[:3].tolist(), rel=1e-6)


def test_the_edge_of_stability_is_two_over_the_step() -> None:
    assert Sharpness().at_step(0.1)[records.STABILITY_EDGE].item() == pytest.approx(20)
    assert Sharpness().at_step(None) == {}


@pytest.mark.parametrize(
    ("count", "E"),
    [
        (1, lambda t: t.sum()),  # its Hessian is 0
        (2, lambda t: 0 * t.sum()),
        (3, lambda t: t @ A @ t),  # as many eigenvalues as parameters
        (9, lambda t: t @ A @ t),
        (1, lambda t: t @ A @ t / 0),
        (1, lambda t: (t - t.detach()).abs().sqrt().sum()),
        (1, lambda t: 1e250 * (1e30 * t).square().square().sum()),  # finite, but its curvature is not
    ],
)
def test_where_there_is_no_sharpness_it_is_null_with_one_warning(count: int, E, capsys) -> None:
    log_to_stderr("corridor-train")
    probe = Sharpness(images="batch", count=count)
    for _ in range(3):
        seen = probe.look(Objective(Surface(THETA, E), loss=mean), ANY_BATCH)
        assert len(seen) == count
        assert all(value.isnan() for value in seen.values())
    assert capsys.readouterr().err.count("probe=sharpness has no answer, and goes on as null: ") == 1
    seen = probe.look(Objective(Surface(THETA, lambda t: t @ A @ t / 2), loss=mean), ANY_BATCH)
    assert count > 2 or seen[records.SHARPNESS].item() == pytest.approx(9)  # the next look can have an answer


def test_every_error_of_arpack_leaves_the_run_alone(monkeypatch, digits_run) -> None:
    def eigsh(*_: object, **__: object) -> None:
        raise ArpackError(-9999)

    monkeypatch.setattr("corridor_exp.probes.sharpness.eigsh", eigsh)
    assert digits_run("probe=sharpness", "probe.every=1", "max_steps=2", "dataset.train_size=50", "out_dir=out") == 0
    assert [r[records.SHARPNESS] for r in records.read_records(Path("out"))] == [None, None]


def drift_on(E, **options) -> dict[str, float]:
    probe = Drift(images="batch", **options)
    seen = probe.look(Objective(Surface(THETA, E), loss=mean), ANY_BATCH)
    return {key: value.item() for key, value in seen.items()}


def test_in_a_corridor_nothing_parts() -> None:
    seen = drift_on(lambda t: 2 * t.norm(), rtol=1e-9)
    assert seen[records.DRIFT_DESCENT] < 1e-8
    assert seen[records.DRIFT_CLR] < 1e-8
    assert seen[records.FLOW_STRAIGHTNESS] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("own", [None, 0.05])
def test_on_a_quadratic_all_three_processes_are_known(own: float | None) -> None:
    def E(t: torch.Tensor) -> torch.Tensor:
        return t @ A @ t / 2

    processes = Drift(images="batch", steps=4, scale=0.2, h=own, rtol=1e-10).simulate(
        Objective(Surface(THETA, E), loss=mean), ANY_BATCH
    )
    g = A @ THETA
    h = own or 0.2 * (E(THETA) / (g @ g)).item()
    curvature = A.diagonal()
    for n in range(5):
        torch.testing.assert_close(processes.descent[n], (1 - h * curvature) ** n * THETA, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(processes.flow[n], torch.exp(-n * h * curvature) * THETA, rtol=0, atol=1e-8)
    flow = torch.stack([torch.exp(-n * h * curvature) * THETA for n in range(5)]) @ A
    straight = torch.cosine_similarity(flow[1:], flow[:-1], dim=1)
    torch.testing.assert_close(processes.straightness, straight, rtol=0, atol=1e-8)


def test_the_straightness_of_a_small_gradient_is_that_of_a_large_one() -> None:
    theta = 1e-9 * THETA
    objective = Objective(Surface(theta, lambda t: t @ t / 2), loss=mean)
    processes = Drift(images="batch", steps=1, h=0.1, rtol=1e-10).simulate(objective, ANY_BATCH)
    assert processes.straightness.item() == pytest.approx(1, abs=1e-6)


def test_a_stiff_flow_has_no_answer() -> None:
    seen = drift_on(lambda t: 1e4 * t[0] ** 2 + t[1] ** 2 + t[2].abs().sqrt(), scale=50.0, max_evaluations=20)
    assert all(value != value for value in seen.values())


@pytest.mark.parametrize(
    "probe", [Sharpness(images="batch", max_restarts=3), Drift(images="batch", steps=2, max_evaluations=30)]
)
def test_looking_changes_nothing(probe) -> None:
    model, batch = small_network("batch"), small_batch()
    before = [t.clone() for t in model.state_dict().values()]
    rng = torch.get_rng_state()
    probe.look(Objective(model), Batch(*batch))
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert torch.equal(rng, torch.get_rng_state())
