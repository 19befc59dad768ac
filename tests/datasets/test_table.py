"""Logistic regression: files in LIBSVM's format, the loss, and its minimum by scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.datasets import dump_svmlight_file, load_breast_cancer
from sklearn.linear_model import LogisticRegression
from torch import nn

from corridor_exp import datasets, models
from corridor_exp.errors import RunError
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape
from corridor_exp.objective.losses import logistic_loss

CPU = {"device": torch.device("cpu"), "seed": 0}


def sparse_table(rows: int = 40, seed: int = 0) -> np.ndarray:
    """Five features: with a mean, mostly 0, constant, always 0, and far from 0."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)) + np.array([3, 0, 0, 0, 1e4])
    x[:, 1] *= rng.random(rows) < 0.3
    x[:, 2], x[:, 3] = 0.1, 0
    return x


def standardised(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    varies = by.min(0) < by.max(0)
    return np.where(varies, (x - by.mean(0)) / np.where(varies, by.std(0), 1), 0)


# -------------------------------------------------------------------- the format


@pytest.mark.parametrize("labels", [(-1, 1), (0, 1), (1, 2)])
@pytest.mark.parametrize("zero_based", [False, True])
def test_a_file_that_scikit_learn_wrote_is_read_back(tmp_path: Path, labels: tuple[int, int], zero_based: bool) -> None:
    x, y = sparse_table(), np.random.default_rng(1).integers(0, 2, 40)
    dump_svmlight_file(x, np.take(labels, y), str(tmp_path / "train"), zero_based=zero_based, comment="a comment")
    dataset = datasets.libsvm(root=str(tmp_path / "train"), **CPU)
    assert dataset.shape == (5, 1, 1, "none")
    assert torch.equal(dataset.y, torch.from_numpy(y))
    np.testing.assert_allclose(dataset.x, standardised(x, x), rtol=1e-6, atol=1e-6)
    assert not dataset.x[:, 2:4].any()
    assert (dataset.train_size, dataset.test_size) == (40, 0)
    assert list(dataset.test_batches(10)) == []


@pytest.mark.parametrize("zero_based", [False, True])
def test_training_and_test_features_are_the_same_ones(tmp_path: Path, zero_based: bool) -> None:
    """Even if only one file has the last features, or only one file has index 0."""
    x, test = sparse_table(), sparse_table(8, seed=1)
    x[:, 4], test[:, 0] = 0, 0
    for name, rows in (("train", x), ("test", test)):
        dump_svmlight_file(rows, np.arange(len(rows)) % 2, str(tmp_path / name), zero_based=zero_based)
    dataset = datasets.libsvm(root=str(tmp_path / "train"), test=str(tmp_path / "test"), **CPU)
    np.testing.assert_allclose(dataset.x, standardised(x, x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dataset.test_x, standardised(test, x), rtol=1e-6, atol=1e-6)
    assert not dataset.test_x[:, 4].any()
    assert dataset.test_y.tolist() == [0, 1] * 4


def test_a_subset_is_balanced_and_standardised_by_itself(tmp_path: Path) -> None:
    x, y = sparse_table(), np.array([1] * 30 + [2] * 10)
    dump_svmlight_file(x, y, str(tmp_path / "train"))
    dataset = datasets.libsvm(root=str(tmp_path / "train"), train_size=16, **CPU)
    assert dataset.y.bincount().tolist() == [8, 8]
    chosen = x[[*range(8), *range(30, 38)]]
    np.testing.assert_allclose(dataset.x, standardised(chosen, chosen), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1 a:1\n-1 1:2\n", "not in LIBSVM's format"),
        ("label,feature\n1,2\n", "not in LIBSVM's format"),
        ("1 2:1 1:3\n-1 1:1\n", "rising indices"),
        ("1 3\n", "not in LIBSVM's format"),
        ("1 99999999999999999999:1\n", "not in LIBSVM's format"),
        ("1 1:nan\n-1 1:2\n", "not finite"),
        ("1 1:1\n2 1:2\n3 1:3\n", "the labels 1, 2, 3: logistic regression needs two"),
        ("".join(f"{i} 1:{i}\n" for i in range(9)), "the labels 0, 1, 2, 3, 4, …: logistic"),
        ("1 1:1\n1 1:2\n", "the labels 1: logistic regression needs two"),
        ("", "the labels (none)"),
        ("1\n-1\n", "no features"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "train"
    file.write_text(content)
    with pytest.raises(RunError) as error:
        datasets.libsvm(root=str(file), **CPU)
    assert said in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(bytes(range(256)))
    with pytest.raises(RunError, match="not in LIBSVM's format"):
        datasets.libsvm(root=str(tmp_path / "train"), **CPU)


def test_a_missing_file_names_the_cures(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("1 1:1\n-1 1:2\n")
    for files in ({"root": str(tmp_path)}, {"root": str(tmp_path / "train"), "test": "nowhere"}):
        with pytest.raises(RunError, match=r"cannot read .*dataset\.root.*dataset\.test.*dataset=breast_cancer"):
            datasets.libsvm(**files, **CPU)


def test_a_label_that_training_lacks_is_told(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("1 1:1\n-1 1:2\n")
    (tmp_path / "test").write_text("0 1:1\n1 1:2\n")
    with pytest.raises(RunError, match="test has the labels 0, 1"):
        datasets.libsvm(root=str(tmp_path / "train"), test=str(tmp_path / "test"), **CPU)


# ------------------------------------------------------------------- breast cancer


def test_breast_cancer_is_the_same_456_and_113_samples_standardised_for_any_seed() -> None:
    dataset, other = datasets.breast_cancer(**CPU), datasets.breast_cancer(device=torch.device("cpu"), seed=5)
    assert (dataset.train_size, dataset.test_size) == (456, 113)
    assert torch.equal(dataset.x, other.x)
    x, y = load_breast_cancer(return_X_y=True)
    test = np.arange(4, 569, 5)
    train = np.setdiff1d(np.arange(569), test)
    np.testing.assert_allclose(dataset.x, standardised(x[train], x[train]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dataset.test_x, standardised(x[test], x[train]), rtol=1e-5, atol=1e-6)
    assert dataset.y.tolist() == y[train].tolist()
    assert dataset.test_y.tolist() == y[test].tolist()


# ------------------------------------------------------------------------ the loss


def test_the_logistic_loss_and_its_gradient_are_those_of_the_formula() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=rng, dtype=torch.float64)
    y = torch.randint(0, 2, (9,), generator=rng)
    model = models.logistic(DataShape(4, 1, 1, "none")).double()
    E, (g,) = Objective(model, logistic_loss).gradient(Batch(x, y))
    signs, z = 2 * y - 1, (x @ model.W1.weight.detach().T).squeeze(1)
    torch.testing.assert_close(E, (1 + (-signs * z).exp()).log().mean(), rtol=1e-12, atol=0)
    expected = (-signs / (1 + (signs * z).exp()))[:, None] * x
    torch.testing.assert_close(g[0], expected.mean(0), rtol=0, atol=1e-14)


def test_two_logits_have_twice_the_squared_gradient() -> None:
    x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 2
    one, two = (nn.Linear(4, k, bias=False).double() for k in (1, 2))
    one.weight.data = two.weight.data.diff(dim=0)
    (E1, (g1,)), (E2, (g2,)) = (
        Objective(model, loss).gradient(Batch(x, y)) for model, loss in ((one, logistic_loss), (two, F.cross_entropy))
    )
    torch.testing.assert_close(E1, E2, rtol=1e-12, atol=0)
    torch.testing.assert_close(g2.square().sum(), 2 * g1.square().sum(), rtol=1e-12, atol=0)


def test_the_loss_of_a_large_logit_is_finite() -> None:
    loss = logistic_loss(torch.tensor([[1e4], [-1e4]]), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(5e3)


@pytest.mark.parametrize("l2", [0.1, 0.001])
def test_the_regularised_minimum_is_scikit_learns(l2: float) -> None:
    dataset = datasets.breast_cancer(**CPU)
    batch = Batch(dataset.x.double(), dataset.y)
    model = models.logistic(dataset.shape).double()
    objective = Objective(model, dataset.loss, l2=l2, micro_batch=100)

    def E_and_g(theta: np.ndarray) -> tuple[float, np.ndarray]:
        E, (g,) = objective.gradient(batch, [torch.from_numpy(theta)[None]])
        return E.item(), g[0].numpy()

    reference = LogisticRegression(C=1 / (l2 * len(batch.y)), fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs = reference.fit(batch.x.numpy(), batch.y.numpy()).coef_[0]
    assert np.linalg.norm(E_and_g(theirs)[1]) < 1e-6
    assert np.linalg.norm(E_and_g(0.9 * theirs)[1]) > 1e-3
    mine = minimize(E_and_g, np.zeros(30), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 0})
    np.testing.assert_allclose(mine.x, theirs, rtol=0, atol=1e-4)
    assert mine.fun == pytest.approx(E_and_g(theirs)[0], rel=1e-9)
