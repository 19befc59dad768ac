"""What the corridor probe measures on, and what a look costs."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from corridor_exp import datasets
from corridor_exp.errors import RunError
from corridor_exp.models import mlp
from corridor_exp.objective import Batch, Objective
from corridor_exp.probes import Corridor, Probe, Sharpness
from corridor_exp.runs import records
from tests.conftest import ANY_BATCH, Surface, engine_of, mean


def test_on_the_whole_training_set_hg_is_that_of_its_mean_loss() -> None:
    dataset = datasets.digits(train_size=120, device=torch.device("cpu"), seed=0)
    torch.manual_seed(0)
    model = mlp(dataset.shape, width=8, activation="tanh").double()

    class Wide:  # the same batches in float64
        train_size, steps = dataset.train_size, dataset.steps

        def train_batches(self, *args):
            return (Batch(b.x.double(), b.y) for b in dataset.train_batches(*args))

    objective = Objective(model, micro_batch=13)
    seen = Corridor("train", dataset=Wide(), batch_size=50).look(objective, None)
    (whole,) = Wide().train_batches(0, 120)
    expected = Corridor().look(Objective(model), whole)
    assert seen.keys() == expected.keys()
    for key, value in seen.items():
        assert value.item() == pytest.approx(expected[key].item(), rel=1e-9), key


def test_a_fixed_batch_is_the_same_at_every_look() -> None:
    dataset = datasets.digits(train_size=120, device=torch.device("cpu"), seed=0)
    model = mlp(dataset.shape, width=8)
    probe = Corridor("fixed", dataset=dataset, batch_size=30)
    first, second = list(dataset.train_batches(1, 30))[:2]
    a, b = (probe.look(Objective(model), batch)[records.HG_NORM].item() for batch in (first, second))
    assert a == b
    assert a != Corridor().look(Objective(model), second)[records.HG_NORM].item()


@pytest.mark.parametrize("probe", [Corridor(), Sharpness(images="batch")])
def test_a_model_without_second_derivatives_is_refused_in_one_line(probe: Probe) -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    surface = Surface(torch.ones(3), lambda t: Once.apply(t).square().sum())
    with pytest.raises(RunError, match=r"no second derivatives.*probe=none"):
        probe.look(Objective(surface, loss=mean), ANY_BATCH)


@pytest.mark.slow
def test_the_memory_of_a_full_data_look_is_that_of_a_micro_batch() -> None:
    """Peak resident memory for 5,000 images and for one micro-batch, each in its own process."""
    code = """
import resource, sys, torch
from corridor_exp.objective.batches import DataShape
from corridor_exp.models import resnet18
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream
model = resnet18(DataShape(3, 16, 10, "small"), width=16)
part = Batch(torch.randn(250, 3, 16, 16), torch.randint(0, 10, (250,)))
count = int(sys.argv[1])
Objective(model, micro_batch=250).gradient_and_hg(Stream(250 * count, lambda: (part for _ in range(count))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    # Large blocks return to the system at once. Otherwise the fragmentation of the allocator adds a tenth.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    peak = {n: int(subprocess.check_output([sys.executable, "-c", code, str(n)], env=environment)) for n in (1, 20)}
    assert peak[20] < 1.02 * peak[1]


# ------------------------------------------------------------------------------- without Hg


def looks_of(*overrides: str) -> tuple[list[dict], int]:
    """The looks of a short run with dropout, and how many forward passes it took."""
    engine, emitted = engine_of("max_steps=6", "probe.every=2", "log_every=1", "epochs=9", *overrides)
    model, passes = engine.objective.model, []
    model.act1 = nn.Sequential(model.act1, nn.Dropout(0.3))
    model.hidden1.register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(0)
    assert engine.train() == "completed"
    return emitted, sum(passes)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_without_hg_the_secants_are_the_same_for_a_gradient_and_a_forward_pass_more(norm: str) -> None:
    model = f"model.norm={norm}"
    (dark, steps), (plain, _) = looks_of("probe=none", model), looks_of("probe.corridor.hessian=true", model)
    cheap, passes = looks_of("probe.corridor.hessian=false", model)
    assert passes == steps + 2 * 3  # three looks, each with the midpoint and the end
    tangent = {records.HG_NORM, records.CORRIDOR_INDEX, records.GRADIENT_CURVATURE, records.HG_RATIO}
    assert sum(records.CORRIDOR_INDEX in a for a in plain) == 3
    for a, b, c in zip(plain, cheap, dark, strict=True):
        assert a[records.TRAIN_LOSS] == b[records.TRAIN_LOSS] == c[records.TRAIN_LOSS]
        missing = {key for key in a.keys() - b.keys() if not key.startswith(records.LAYER_HG_NORM)}
        assert missing == (tangent | {records.SECANT_COSINE} if records.CORRIDOR_INDEX in a else set())
        for key in b.keys() - c.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6)


def test_under_autocast_a_look_without_hg_has_an_e_and_g_of_its_own() -> None:
    steps = looks_of("probe=none", "engine.precision=bf16")[1]
    assert looks_of("probe.corridor.hessian=false", "engine.precision=bf16")[1] == steps + 3 * 3


def test_a_look_after_the_gradient_sees_the_model_as_training_found_it() -> None:
    """Spectral norm's buffers move in every forward pass of training, and so do the random numbers."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    objective = Objective(nn.Sequential(layer, nn.Dropout(0.5), nn.Tanh()))
    batch = Batch(torch.randn(8, 4), torch.randint(0, 3, (8,)))
    before = objective.before()
    E, g = objective.gradient(batch)
    loss = objective.backward(batch).loss
    past = objective.as_before(before, batch, loss)
    assert past.gradient(batch)[0] is loss
    kept = [p.grad.clone() for p in objective.theta]
    torch._foreach_zero_(past.gradient(batch)[1])  # as a probe of one's own may do
    assert all(torch.equal(p.grad, k) for p, k in zip(objective.theta, kept, strict=True))
    assert objective.loss(batch) != E
    assert past.loss(batch) == pytest.approx(E.item(), rel=1e-6)
    for ours, own, anew in zip(g, past.gradient(batch)[1], past.gradient(batch, objective.theta)[1], strict=True):
        torch.testing.assert_close(own, ours)
        torch.testing.assert_close(anew, ours)
