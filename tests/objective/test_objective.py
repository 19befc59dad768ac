"""Hg against a dense float64 Hessian, and that looking leaves no trace."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream
from tests.conftest import ANY_BATCH, Surface, mean, small_batch, small_network


def flat(vector: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in vector])


def dense(model: nn.Module, batch: Batch, l2: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """E, g and H of the mean loss and ½·l2·‖θ‖² by torch.func, from one flat vector of parameters."""
    names = [n for n, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    sizes = [p.numel() for p in model.parameters()]
    buffers = {n: b.clone() for n, b in model.named_buffers()}

    def E(theta: Tensor) -> Tensor:
        parts = [t.reshape(s) for t, s in zip(theta.split(sizes), shapes, strict=True)]
        state = {**dict(zip(names, parts, strict=True)), **{n: b.clone() for n, b in buffers.items()}}
        return F.cross_entropy(functional_call(model, state, (batch.x,)), batch.y) + l2 * theta.dot(theta) / 2

    theta = flat(tuple(p.detach() for p in model.parameters()))
    return E(theta), torch.func.grad(E)(theta), torch.autograd.functional.hessian(E, theta)


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_e_g_and_hg_equal_the_dense_ones(norm: str) -> None:
    model, batch = small_network(norm), small_batch()
    E, g, H = dense(model, batch)
    mine = Objective(model).gradient_and_hg(batch)
    torch.testing.assert_close(mine[0], E, rtol=1e-12, atol=0)
    torch.testing.assert_close(flat(mine[1]), g, rtol=0, atol=1e-12)
    torch.testing.assert_close(flat(mine[2]), H @ g, rtol=0, atol=1e-11)


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("size", [1, 5, 11])
def test_without_batch_norm_the_cut_changes_nothing(norm: str, size: int) -> None:
    model, batch = small_network(norm), small_batch()
    whole = Objective(model).gradient_and_hg(batch)
    cut = Objective(model, micro_batch=size).gradient_and_hg(batch)
    torch.testing.assert_close(cut[0], whole[0], rtol=1e-13, atol=0)
    for k in (1, 2):
        torch.testing.assert_close(flat(cut[k]), flat(whole[k]), rtol=0, atol=1e-13)


def test_with_batch_norm_hg_is_that_of_the_mean_over_the_cut() -> None:
    model, batch = small_network("batch"), small_batch(12)
    parts = [dense(model, Batch(x, y)) for x, y in zip(batch.x.split(4), batch.y.split(4), strict=True)]
    E, g, H = (sum(part[k] for part in parts) / 3 for k in range(3))
    mine = Objective(model, micro_batch=4).gradient_and_hg(batch)
    torch.testing.assert_close(mine[0], E, rtol=1e-12, atol=0)
    torch.testing.assert_close(flat(mine[2]), H @ g, rtol=0, atol=1e-11)


def test_training_and_looking_see_the_same_loss_and_gradient() -> None:
    model, batch = small_network("batch"), small_batch()
    objective = Objective(model, micro_batch=5)
    E, g = objective.gradient(batch)
    trained = objective.backward(batch)
    torch.testing.assert_close(trained.loss, E, rtol=1e-14, atol=0)
    torch.testing.assert_close(flat(tuple(p.grad for p in model.parameters())), flat(g), rtol=0, atol=1e-14)
    torch.testing.assert_close(objective.loss(batch), E, rtol=1e-14, atol=0)


def test_the_gradient_elsewhere_is_that_of_a_model_moved_there() -> None:
    model, batch = small_network("batch"), small_batch()
    theta = [p.detach() + 0.1 for p in model.parameters()]
    E, g = Objective(model).gradient(batch, theta)
    moved = copy.deepcopy(model)
    for p, t in zip(moved.parameters(), theta, strict=True):
        p.data.copy_(t)
    there = Objective(moved).gradient(batch)
    assert torch.equal(E, there[0])
    assert torch.equal(flat(g), flat(there[1]))


def test_looking_leaves_no_trace() -> None:
    model = nn.Sequential(small_network("batch")[:4], nn.Dropout(0.5), nn.Linear(18, 3).double())
    batch = small_batch()
    objective = Objective(model, micro_batch=5)
    objective.backward(batch)
    state = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    rng = torch.get_rng_state()
    objective.loss(batch)
    objective.gradient(batch)
    objective.gradient_and_hg(batch)
    objective.hessian_product(batch, [torch.ones_like(p) for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(grads, model.parameters(), strict=True))
    assert torch.equal(rng, torch.get_rng_state())
    assert model.training


def test_all_evaluations_of_one_look_share_the_dropout_masks_with_training() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 40), nn.Dropout(0.5), nn.Linear(40, 3)).double()
    batch = small_batch()
    objective = Objective(model, micro_batch=5)
    E, g, _ = objective.gradient_and_hg(batch)
    assert torch.equal(objective.loss(batch), E)
    assert torch.equal(objective.backward(batch).loss, E)
    torch.testing.assert_close(flat(tuple(p.grad for p in model.parameters())), flat(g), rtol=0, atol=1e-15)
    assert not torch.equal(objective.backward(batch).loss, E)


def test_a_linear_loss_and_an_unused_parameter_have_no_curvature() -> None:
    surface = Surface(torch.tensor([1.0, 2.0]), lambda t: 3 * t[0])
    surface.register_parameter("unused", nn.Parameter(torch.ones(2)))
    _, g, hg = Objective(surface, loss=mean).gradient_and_hg(ANY_BATCH)
    assert flat(g).tolist() == [3, 0, 0, 0]
    assert flat(hg).tolist() == [0, 0, 0, 0]


def test_hg_of_a_quadratic_is_a_squared_theta() -> None:
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    _, _, hg = Objective(Surface(theta, lambda t: t @ A @ t / 2), loss=mean).gradient_and_hg(ANY_BATCH)
    torch.testing.assert_close(hg[0], A @ A @ theta, rtol=0, atol=1e-14)


def test_evaluation_mode_uses_running_statistics_and_restores_the_mode() -> None:
    model, batch = small_network("batch"), small_batch()
    objective = Objective(model)
    objective.backward(batch)
    reference = copy.deepcopy(model).eval()
    expected = F.cross_entropy(reference(batch.x), batch.y)
    assert torch.equal(objective.evaluate(batch).loss, expected)
    assert model.training
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    objective.evaluate(batch)
    assert model.training
    assert not frozen.training


def test_after_an_evaluation_a_module_is_told_that_it_trains_again() -> None:
    class Merging(nn.Linear):
        merged = False

        def train(self, mode: bool = True) -> nn.Module:
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(nn.Flatten(), Merging(25, 3)).double()
    Objective(model).evaluate(small_batch())
    assert model.training
    assert not model[1].merged


def test_right_answers_are_counted_for_one_class_an_image_alone() -> None:
    """A class for each position of a sequence would make an accuracy above 1."""
    model = nn.Conv1d(4, 3, 1)
    objective = Objective(model)
    assert objective.evaluate(Batch(torch.randn(5, 4, 7), torch.zeros(5, 7, dtype=torch.long))).correct is None
    assert objective.evaluate(Batch(torch.randn(5, 4, 7), torch.zeros(5, 7, dtype=torch.long))).loss.isfinite()


def test_under_autocast_the_loss_is_still_a_float32_mean() -> None:
    model = small_network().float()
    batch = Batch(small_batch().x.float(), small_batch().y)
    trained = Objective(model, precision=torch.bfloat16).backward(batch)
    exact = Objective(model).loss(batch)
    assert trained.loss.dtype == torch.float32
    assert trained.loss != exact
    torch.testing.assert_close(trained.loss, exact, rtol=2e-2, atol=0)


# --------------------------------------------------------------------- regulariser


@pytest.mark.parametrize("size", [None, 5, 1])
def test_the_regulariser_is_part_of_e_g_and_hg_however_the_batch_is_cut(size: int | None) -> None:
    model, batch, l2 = small_network("group"), small_batch(12), 0.3
    E, g, H = dense(model, batch, l2)
    assert (E - dense(model, batch)[0]).item() > 0.1
    objective = Objective(model, l2=l2, micro_batch=size)
    parts = Stream(12, lambda: (Batch(x, y) for x, y in zip(batch.x.split(7), batch.y.split(7), strict=True)))
    for data in (batch, parts):
        mine = objective.gradient_and_hg(data)
        torch.testing.assert_close(mine[0], E, rtol=1e-12, atol=0)
        torch.testing.assert_close(flat(mine[1]), g, rtol=0, atol=1e-12)
        torch.testing.assert_close(flat(mine[2]), H @ g, rtol=0, atol=1e-11)
        torch.testing.assert_close(objective.loss(data), E, rtol=1e-12, atol=0)
    trained = objective.backward(batch)
    torch.testing.assert_close(trained.loss, E, rtol=1e-12, atol=0)
    torch.testing.assert_close(flat(tuple(p.grad for p in model.parameters())), g, rtol=0, atol=1e-12)
    torch.testing.assert_close(objective.evaluate(batch).loss, E, rtol=1e-12, atol=0)


def test_the_regulariser_is_that_of_the_point_looked_at() -> None:
    model, batch = small_network(), small_batch()
    theta = [p.detach() + 0.1 for p in model.parameters()]
    plain, E = (Objective(model, l2=l2).loss(batch, theta) for l2 in (0.0, 0.5))
    torch.testing.assert_close(E - plain, flat(tuple(theta)).square().sum() / 4, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------ accuracy


@pytest.mark.parametrize("size", [None, 3])
def test_one_logit_names_class_1_where_it_is_positive(size: int | None) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    batch = Batch(torch.tensor([[-3.0], [-1.0], [2.0], [4.0], [0.0]]), torch.tensor([0, 1, 1, 1, 0]))
    objective = Objective(model, loss=lambda z, y: F.soft_margin_loss(z.squeeze(1), 2.0 * y - 1), micro_batch=size)
    assert objective.backward(batch).correct == 4
    assert objective.evaluate(batch).correct == 4


@pytest.mark.parametrize("size", [None, 3])
def test_numbers_are_neither_right_nor_wrong(size: int | None) -> None:
    batch = Batch(torch.randn(5, 2), torch.randn(5, 2))
    assert Objective(nn.Linear(2, 2), loss=F.mse_loss, micro_batch=size).backward(batch).correct is None
