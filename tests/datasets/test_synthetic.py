"""Matrix factorisation and quadratics against results of linear algebra, and a run of every small problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import dump_svmlight_file

from corridor_exp import datasets, models
from corridor_exp.datasets.resident import NumericDataset
from corridor_exp.datasets.synthetic import ill_conditioned_matrix, squared_error
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.losses import half_squared_error
from corridor_exp.runs.records import read_records

CPU = {"device": torch.device("cpu"), "seed": 0}


def wide(dataset: NumericDataset) -> Batch:
    return Batch(dataset.x.double(), dataset.y.double())


@pytest.mark.parametrize("problem", [datasets.matrix_factorisation, datasets.quadratic])
def test_a_problem_is_the_same_for_any_seed_but_its_order(problem: Callable[..., NumericDataset]) -> None:
    one, two = problem(**CPU), problem(device=torch.device("cpu"), seed=1)
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.y, two.y)
    assert not torch.equal(next(one.train_batches(0, 10)).y, next(two.train_batches(0, 10)).y)
    assert one.test_size == 0
    assert torch.equal(problem(train_size=7, **CPU).x, one.x[:7])


# ------------------------------------------------------------- matrix factorisation


def test_the_matrix_has_condition_number_1e5_and_the_data_are_its_images() -> None:
    A = ill_conditioned_matrix()
    assert A.shape == (10, 6)
    assert np.linalg.cond(A) == pytest.approx(1e5, rel=1e-8)
    x, y = wide(datasets.matrix_factorisation(**CPU))
    assert (x.shape, y.shape) == ((1000, 6), (1000, 10))
    np.testing.assert_allclose(y, x.numpy() @ A.T, rtol=0, atol=1e-6)
    assert np.linalg.cond(np.linalg.lstsq(x, y)[0]) == pytest.approx(1e5, rel=0.01)
    assert x.mean(0).abs().max() > 0.001  # not standardised
    np.testing.assert_allclose(np.cov(x.T), np.eye(6), atol=0.15)


def test_scaled_rows_of_a_tall_random_matrix_are_not_ill_conditioned() -> None:
    """The reason why this package chooses the singular values itself."""
    rng = np.random.default_rng(0)
    scale = np.linspace(1, 1e-5, 10)[:, None]
    tall, square = (np.median([np.linalg.cond(scale * rng.random((10, n))) for _ in range(200)]) for n in (6, 10))
    assert 15 < tall < 30
    assert square > 1e5


def fitted(rank: int) -> tuple[float, float]:
    """The smallest mean ‖W₂W₁x − y‖² that L-BFGS finds, and the smallest that a matrix of that rank can have.

    By Eckart and Young the latter are the squared singular values of AC^½ beyond `rank`, with C the mean of xxᵀ.
    """
    torch.manual_seed(0)
    dataset = datasets.matrix_factorisation(**CPU)
    x, y = wide(dataset)
    model = models.deep_linear(dataset.shape, width=rank).double()
    objective = Objective(model, squared_error)
    shapes = [p.shape for p in model.parameters()]

    def E_and_g(theta: np.ndarray) -> tuple[float, np.ndarray]:
        parts = torch.from_numpy(theta).split([s.numel() for s in shapes])
        E, g = objective.gradient(Batch(x, y), [p.view(s) for p, s in zip(parts, shapes, strict=True)])
        return E.item(), torch.cat([t.flatten() for t in g]).numpy()

    start = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    options = {"maxiter": 5000, "maxfun": 5000, "ftol": 0, "gtol": 1e-10}
    least = minimize(E_and_g, start, jac=True, method="L-BFGS-B", options=options).fun
    A = torch.linalg.lstsq(x, y).solution.T
    L = torch.linalg.cholesky(x.T @ x / len(x))
    return least, torch.linalg.svdvals(A @ L)[rank:].square().sum().item()


def test_rank_10_interpolates() -> None:
    least, bound = fitted(10)
    assert bound == 0
    assert least < 1e-10


def test_rank_4_reaches_its_bound_and_no_less() -> None:
    least, bound = fitted(4)
    assert bound > 0.03
    assert bound * (1 - 1e-9) <= least < bound * (1 + 1e-6)


# ------------------------------------------------------------------------ quadratics


def quadratic_minimum(A: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The minimiser θ* and the minimum of the mean of ½‖Aᵢθ − bᵢ‖²; A is N × m × d, b is N × m. In float64."""
    A, b = A.double(), b.double()
    theta = torch.linalg.lstsq(A.flatten(0, 1), b.flatten()[:, None]).solution[:, 0]
    return theta, half_squared_error(A @ theta, b)


def test_the_minimum_of_the_quadratics_is_that_of_their_hessians_and_minimisers() -> None:
    """θ* = H⁻¹ mean(Hᵢθᵢ*), and f* = ½ mean(θᵢ*ᵀHᵢθᵢ*) − ½ θ*ᵀHθ*, with H = mean(Hᵢ)."""
    A, b = wide(datasets.quadratic(**CPU))
    H = A.mT @ A
    minimisers = torch.linalg.solve(A, b)
    pulls = (H @ minimisers[..., None])[..., 0]
    expected = torch.linalg.solve(H.mean(0), pulls.mean(0))
    lowest = ((minimisers * pulls).sum(1).mean() - expected @ H.mean(0) @ expected) / 2
    theta, minimum = quadratic_minimum(A, b)
    torch.testing.assert_close(theta, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(minimum, lowest, rtol=1e-10, atol=0)
    assert minimum > 1  # no interpolation, although each quadratic reaches 0
    torch.testing.assert_close(minimisers.mean(0), torch.zeros(100).double(), rtol=0, atol=0.5)
    assert torch.linalg.eigvalsh(H).min() > 0.05


def test_the_objective_of_the_quadratics_is_lowest_at_the_minimiser() -> None:
    dataset = datasets.quadratic(**CPU)
    batch = wide(dataset)
    objective = Objective(models.vector(dataset.shape).double(), dataset.loss)
    theta, minimum = quadratic_minimum(*batch)
    E, (g,) = objective.gradient(batch, [theta])
    torch.testing.assert_close(E, minimum, rtol=1e-12, atol=0)
    assert g.norm() < 1e-11
    d = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    above = objective.loss(batch, [theta + d]) - minimum
    torch.testing.assert_close(above, d @ (batch.x.mT @ batch.x).mean(0) @ d / 2, rtol=1e-10, atol=0)


# ------------------------------------------------------------------- from the command


def metrics(directory: Path) -> list[dict[str, float]]:
    return list(read_records(directory))


def test_each_problem_runs_and_tells_an_accuracy_only_where_there_are_classes(corridor_train, tmp_path: Path) -> None:
    file = tmp_path / "train.svm"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    dump_svmlight_file(x, np.sign(x[:, 0]), str(file))
    problems = {
        "breast_cancer": ("model=logistic",),
        "libsvm": ("model=logistic", f"dataset.root={file}", f"dataset.test={file}"),
        "matrix_factorisation": ("model=deep_linear", "batch_size=100"),
        "quadratic": ("model=vector", "batch_size=10"),
    }
    for name, overrides in problems.items():
        common = (f"dataset={name}", "logger=jsonl", "epochs=9", "optim.step_cap=0.5", "l2=1e-3", f"out_dir={name}")
        assert corridor_train(*overrides, *common) == 0
        first, *_, last = metrics(tmp_path / name)
        assert last["train/epoch_loss"] < first["train/loss"]
        accuracies = {key for key in last if key.endswith("accuracy")}
        assert accuracies == ({"train/accuracy", "test/accuracy"} if "logistic" in overrides[0] else set())
    assert metrics(tmp_path / "libsvm")[-1]["test/accuracy"] > 0.9
    assert metrics(tmp_path / "breast_cancer")[-1]["test/accuracy"] > 0.9


def test_gradient_descent_from_the_command_reaches_the_minimum_of_the_quadratics(corridor_train, tmp_path) -> None:
    options = ("optim=sgd", "optim.lr=1", "batch_size=full", "epochs=100", "probe=none", "logger=jsonl", "out_dir=run")
    assert corridor_train("dataset=quadratic", "model=vector", *options) == 0
    _, minimum = quadratic_minimum(*wide(datasets.quadratic(**CPU)))
    assert metrics(tmp_path / "run")[-1]["train/loss"] == pytest.approx(minimum.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("dataset=digits model=vector", "dataset=quadratic"),
        ("dataset=digits model=logistic", "take model=linear"),
        ("dataset=breast_cancer model=resnet18", "needs images"),
        ("dataset=quadratic model=vgg11", "needs images"),
        ("dataset=libsvm dataset.root=nowhere model=logistic", "nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(corridor_train, capsys, overrides: str, said: str) -> None:
    assert corridor_train(*overrides.split(), "logger=jsonl", "out_dir=run") == 1
    _, error, _ = (
        capsys.readouterr().err.splitlines()
    )  # between the line on progress and the line with the path of the summary
    assert said in error
