"""dm-haiku's ResNets, compared with dm-haiku itself in float64."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corridor_exp import models
from corridor_exp.errors import RunError
from corridor_exp.models.convolution import SameConv2d
from corridor_exp.models.haiku import DebiasedBatchNorm2d, SameMaxPool2d
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape
from tests.conftest import assert_resumes_to_the_same_bits, engine_of, weights

CIFAR = DataShape(3, 32, 10, "small")
DEPTHS = {18: models.resnet18_haiku, 50: models.resnet50_haiku}
DIGITS = ["model=resnet18_haiku", "model.width=4", "probe=corridor", "probe.every=1"]


@pytest.fixture(autouse=True)
def _seeded_and_in_float64() -> Iterator[None]:
    torch.manual_seed(0)
    with jax.enable_x64(True):
        yield


def oracle(depth: int, width: int) -> Any:
    """`hk.nets.ResNet18` or `ResNet50`: logits as a function of the images and of whether it trains."""

    def network(x: jax.Array, training: bool) -> jax.Array:
        if width == 64:
            return {18: hk.nets.ResNet18, 50: hk.nets.ResNet50}[depth](10)(x, training)
        config = dict(hk.nets.ResNet.CONFIGS[depth])
        config["channels_per_group"] = tuple(c * width // 64 for c in config["channels_per_group"])
        return hk.nets.ResNet(num_classes=10, initial_conv_config={"output_channels": width}, **config)(x, training)

    return hk.transform_with_state(network)


def place(name: str, depth: int, width: int) -> tuple[str, str]:
    """Haiku's module and name for the parameter that torch calls `name`."""
    network = "res_net" if width != 64 else f"res_net{depth}"
    name = re.sub(r"layer(\d)\.(\d)\.", lambda m: f"block_group_{int(m[1]) - 1}/~/block_{m[2]}/~/", name)
    name = name.replace("downsample.0", "shortcut_conv").replace("downsample.1", "shortcut_batchnorm")
    if "block_" in name:
        name = re.sub(r"conv(\d)", lambda m: f"conv_{int(m[1]) - 1}", name)
        name = re.sub(r"bn(\d)", lambda m: f"batchnorm_{int(m[1]) - 1}", name)
    name = name.replace("conv1", "initial_conv").replace("bn1", "initial_batchnorm").replace("fc", "logits")
    module, kind = name.rsplit(".", 1)
    if "batchnorm" in module:
        return f"{network}/~/{module}", {"weight": "scale", "bias": "offset"}[kind]
    return f"{network}/~/{module}", {"weight": "w", "bias": "b"}[kind]


def as_haiku(tensors: dict[str, Tensor], depth: int, width: int) -> dict[str, dict[str, jax.Array]]:
    """Parameters or gradients with Haiku's names and layouts."""
    tree: dict[str, dict[str, jax.Array]] = {}
    for name, t in tensors.items():
        module, kind = place(name, depth, width)
        t = t.detach()
        t = {4: lambda t: t.permute(2, 3, 1, 0), 2: lambda t: t.T, 1: lambda t: t}[t.dim()](t)
        t = t.view(1, 1, 1, -1) if "batchnorm" in module else t
        tree.setdefault(module, {})[kind] = jnp.asarray(t.numpy())
    return tree


def of_random_weights(depth: int, width: int) -> nn.Module:
    """A network in float64 without parameters that are zero or one."""
    torch.manual_seed(0)
    model = DEPTHS[depth](CIFAR, width=width).double()
    for p in model.parameters():
        if p.dim() == 1 or not p.any():
            nn.init.normal_(p, mean=0.5, std=0.3)
    return model


def batch(number: int, size: int, images: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(images, 3, size, size, generator=generator, dtype=torch.float64) * (1 + number) + number
    return x, torch.randint(0, 10, (images,), generator=generator)


def last_axis(x: Tensor) -> jax.Array:
    return jnp.asarray(x.permute(0, 2, 3, 1).contiguous().numpy())


def initial_state(net: Any, images: jax.Array) -> Any:
    """Haiku's statistics before the first update, all zero. `hk.init` would take a minute to draw the weights."""
    _, state = jax.eval_shape(lambda: net.init(jax.random.key(0), images, True))
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)


def assert_same(actual: Any, expected: Any, rtol: float = 1e-9) -> None:
    """Compare array by array, to `rtol` of the largest number of each: some arrays are zero up to rounding."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * float(np.abs(b).max()) + 1e-12)


@pytest.mark.parametrize(
    ("depth", "width", "size"),
    [(18, 64, 32), pytest.param(50, 64, 32, marks=pytest.mark.slow), (18, 8, 64), (50, 8, 64), (18, 8, 33)],
)
def test_in_training_logits_loss_and_gradient_are_haikus(depth: int, width: int, size: int) -> None:
    model, (x, y) = of_random_weights(depth, width), batch(0, size)
    logits = model(x)
    E = F.cross_entropy(logits, y)
    E.backward()

    net = oracle(depth, width)
    theta = as_haiku(dict(model.named_parameters()), depth, width)
    images, classes = last_axis(x), jnp.asarray(y.numpy())
    state = initial_state(net, images)

    def loss(theta: Any) -> tuple[jax.Array, jax.Array]:
        outputs, _ = net.apply(theta, state, None, images, True)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, classes).mean(), outputs

    (expected, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(theta)
    assert_same(logits.detach().numpy(), outputs)
    assert E.item() == pytest.approx(float(expected), rel=1e-10)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_same(as_haiku(gradients, depth, width), gradient)


@pytest.mark.parametrize("depth", [18, 50])
def test_in_evaluation_logits_are_haikus_after_any_number_of_updates(depth: int) -> None:
    model, net = of_random_weights(depth, 8), oracle(depth, 8)
    theta = as_haiku(dict(model.named_parameters()), depth, 8)
    test, _ = batch(99, 32)
    images = last_axis(test)
    state = initial_state(net, images)
    train = jax.jit(lambda state, x: net.apply(theta, state, None, x, True)[1])
    evaluate = jax.jit(lambda state: net.apply(theta, state, None, images, False)[0])
    for update in range(1, 21):
        x, _ = batch(update, 32)
        with torch.no_grad():
            model.train()(x)
        state = train(state, last_axis(x))
        if update in (1, 3, 20):
            with torch.no_grad():
                logits = model.eval()(test)
            assert_same(logits.numpy(), evaluate(state))
            average = state["res_net/~/initial_batchnorm/~/var_ema"]["average"].ravel()
            assert_same(model.bn1.running_var.numpy() / (1 - 0.9**update), average)


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_initial_parameters_are_drawn_as_haiku_draws_them(depth: int) -> None:
    """The size, mean, variance and bound of each tensor, and the exact value of each constant tensor."""
    torch.manual_seed(0)
    model, net = DEPTHS[depth](CIFAR), oracle(depth, 64)
    with jax.enable_x64(False):
        key = jax.random.key(0, impl="unsafe_rbg")  # compiles faster
        theirs, _ = jax.jit(lambda: net.init(key, jnp.zeros((2, 32, 32, 3)), True))()
    mine, theirs = jax.tree.map(np.asarray, (as_haiku(dict(model.named_parameters()), depth, 64), theirs))
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    assert sum(p.numel() for p in model.parameters()) == sum(a.size for a in jax.tree.leaves(theirs))
    constants = set()
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        if b.std() == 0:
            np.testing.assert_array_equal(a, b)
            constants.add(float(b.ravel()[0]))
        else:
            bound, error = 2 * math.prod(b.shape[:-1]) ** -0.5, 5 / math.sqrt(b.size)
            assert abs(float(a.mean())) < error * bound
            assert float(a.var()) == pytest.approx(float(b.var()), rel=2 * error)
            for of in (a, b):
                assert 0.95 * bound < float(np.abs(of).max()) <= bound * (1 + 1e-6)
    assert constants == {0.0, 1.0}


@pytest.mark.parametrize("network", DEPTHS.values())
def test_the_first_loss_is_that_of_a_guess_and_moves_the_logits_layer_alone(network: Any) -> None:
    model = network(CIFAR, width=8)
    E = F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 3, 5, 9]))
    E.backward()
    assert E.item() == pytest.approx(math.log(10), rel=1e-7)
    assert {name for name, p in model.named_parameters() if p.grad.any()} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_convolution_and_pool_are_padded_as_jax_pads(kernel: int, stride: int) -> None:
    """Also for images so small that every output sees every pixel. The pool pads with −∞."""
    conv = SameConv2d(nn.Conv2d(3, 4, kernel, stride)).double()
    for height, width in itertools.product(range(1, 9), repeat=2):
        x = torch.randn(2, 3, height, width, dtype=torch.float64) - 5
        rows, columns = jax.lax.padtype_to_pads((height, width), (kernel, kernel), (stride, stride), "SAME")
        y, expected = conv(x), F.conv2d(F.pad(x, (*columns, *rows)), conv.weight, None, stride)
        torch.testing.assert_close(y, expected)
        upstream = torch.randn_like(y)
        gradients = [torch.autograd.grad(z, conv.weight, upstream)[0] for z in (y, expected)]
        torch.testing.assert_close(*gradients)
        if (kernel, stride) == (3, 2):
            padded = F.pad(x, (*columns, *rows), value=-math.inf)
            assert torch.equal(SameMaxPool2d(3, 2)(x), F.max_pool2d(padded, 3, 2))


# ------------------------------------------------------------------- batch norm's statistics


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (1, 3, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_statistics_are_those_of_the_definition(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    """Also for a single number, whose variance is 0. torch's own batch norm refuses it."""
    norm = DebiasedBatchNorm2d(3).double()
    batches = [torch.randn(shape, dtype=torch.float64).to(memory_format=layout) * k for k in (1, 2, 3)]
    for x in batches:
        mean, variance = x.mean([0, 2, 3], keepdim=True), x.var([0, 2, 3], unbiased=False, keepdim=True)
        torch.testing.assert_close(norm(x), (x - mean) / (variance + 1e-5).sqrt())
    shares = torch.tensor([[0.9**2], [0.9], [1]], dtype=torch.float64)
    shares /= shares.sum()
    x = torch.randn(shape, dtype=torch.float64)
    mean = (shares * torch.stack([b.mean([0, 2, 3]) for b in batches])).sum(0).view(-1, 1, 1)
    variance = (shares * torch.stack([b.var([0, 2, 3], unbiased=False) for b in batches])).sum(0).view(-1, 1, 1)
    torch.testing.assert_close(norm.eval()(x), (x - mean) / (variance + 1e-5).sqrt())


def test_evaluation_before_the_first_update_leaves_values_as_they_are() -> None:
    x = torch.randn(2, 3, 4, 4)
    norm = DebiasedBatchNorm2d(3).eval()
    torch.testing.assert_close(norm(x), x / math.sqrt(1 + 1e-5))
    assert torch.isfinite(models.resnet50_haiku(CIFAR, width=8).eval()(torch.randn(2, 3, 32, 32))).all()


def test_statistics_of_a_bf16_run_are_float32() -> None:
    model = models.resnet18_haiku(CIFAR, width=8).to(memory_format=torch.channels_last)
    x = torch.randn(8, 3, 32, 32).to(memory_format=torch.channels_last)
    before = model.conv1(x)
    with torch.autocast("cpu", torch.bfloat16):
        model(x)
    assert {b.dtype for b in model.buffers()} == {torch.float32, torch.int64}
    variance = before.var([0, 2, 3], unbiased=False)
    torch.testing.assert_close(model.bn1.running_var, 0.1 * variance, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_look_leaves_no_trace_on_the_statistics(micro_batch: int | None) -> None:
    model, (x, y) = of_random_weights(18, 8), batch(0, 32, 8)
    objective = Objective(model, micro_batch=micro_batch)
    objective.backward(Batch(x, y))
    before = {name: b.clone() for name, b in model.named_buffers()}
    objective.gradient_and_hg(Batch(x, y))
    objective.gradient(Batch(x, y))
    objective.loss(Batch(x, y))
    assert all(torch.equal(before[name], b) for name, b in model.named_buffers())


def test_hg_by_the_short_double_backward_is_torchs() -> None:
    model, (x, y) = of_random_weights(18, 8), batch(0, 32)
    E, g, Hg = Objective(model).gradient_and_hg(Batch(x, y))
    loss = F.cross_entropy(model(x), y)
    gradient = torch.autograd.grad(loss, model.parameters(), create_graph=True)
    assert E.item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(g, gradient, rtol=1e-9, atol=1e-12)
    expected = torch.autograd.grad(gradient, list(model.parameters()), [t.detach() for t in gradient])
    for a, b in zip(Hg, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10 * float(b.abs().max()) + 1e-9)


def test_a_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Also if the last batch has one image, whose maps of 1×1 have no variance."""
    overrides = [*DIGITS, "dataset.train_size=129", "epochs=2"]
    engine, records = assert_resumes_to_the_same_bits(overrides, 2, tmp_path)
    assert engine.progress.step == 6
    assert all(math.isfinite(record["train/loss"]) for record in records)


def test_batch_norm_over_all_ranks_is_refused_and_not_replaced_by_torchs() -> None:
    with pytest.raises(RunError, match=r"engine\.sync_batch_norm=true"):
        engine_of(*DIGITS, "engine.sync_batch_norm=true")


def test_a_run_with_looks_is_the_run_without() -> None:
    runs = []
    for probe in (["probe=corridor", "probe.every=1"], ["probe=none"]):
        engine, _ = engine_of(*DIGITS[:2], *probe, "epochs=1")
        engine.train()
        runs.append(weights(engine))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
