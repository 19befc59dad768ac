import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from corridor_exp import models
from corridor_exp.errors import RunError, UsageError
from corridor_exp.objective.batches import DataShape

CIFAR = DataShape(3, 32, 10, "small")
IMAGENET = DataShape(3, 224, 1000, "imagenet")
GREY = DataShape(1, 32, 10, "small")
TABLE = DataShape(30, 1, 1, "none")
QUADRATICS = DataShape(1, 7, 7, "none")
PROBLEMS = (models.deep_linear, models.logistic, models.vector)
NETWORKS = [f for name in models.__all__ if (f := getattr(models, name)) not in PROBLEMS]
CONVOLUTIONAL = [f for f in NETWORKS if f not in (models.mlp, models.linear)]
EXACT = (models.resnet18_haiku, models.resnet50_haiku)  # their stem and weights are fixed


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: t.shape for name, t in model.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_standard_resnets_are_torchvisions(name: str) -> None:
    """The names and shapes of the parameters are the same, and with the same weights the function is the same."""
    mine, theirs = getattr(models, name)(IMAGENET), getattr(torchvision.models, name)()
    assert shapes(mine) == shapes(theirs)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x))


def test_resnet20_has_the_published_size_and_shortcuts_without_parameters() -> None:
    """269,722 parameters, as counted for He et al.'s network; a shortcut keeps its channels in the middle."""
    model = models.resnet20(CIFAR)
    assert sum(p.numel() for p in model.parameters()) == 269_722
    x = torch.randn(2, 16, 8, 8)
    shortcut = model.layer2[0].downsample(x)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_standard_vggs_are_torchvisions(name: str, norm: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name + ("_bn" if norm == "batch" else ""))(init_weights=False)
        mine = getattr(models, name)(IMAGENET, norm=norm)
    assert shapes(mine) == shapes(theirs)


def test_densenet_has_torchvisions_parameters() -> None:
    assert shapes(models.densenet121(IMAGENET)) == shapes(torchvision.models.densenet121())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [CIFAR, GREY])
def test_every_network_takes_small_images_and_is_differentiable(
    network: Callable[..., nn.Module], shape: DataShape
) -> None:
    width = {} if network is models.linear else {"width": 8}
    model = network(shape, **width)
    logits = model(torch.randn(2, shape.channels, 32, 32))
    assert logits.shape == (2, 10)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("network", CONVOLUTIONAL)
@pytest.mark.parametrize("activation", ["silu", "gelu", "softplus", "tanh"])
def test_an_activation_replaces_every_relu(network: Callable[..., nn.Module], activation: str) -> None:
    model = network(CIFAR, width=8, activation=activation)
    kinds = {type(m).__name__.lower() for m in model.modules()}
    assert activation in kinds
    assert "relu" not in kinds


@pytest.mark.parametrize("network", [*CONVOLUTIONAL, models.mlp])
def test_a_norm_replaces_every_batch_norm(network: Callable[..., nn.Module]) -> None:
    for norm, kind in (("none", nn.Identity), ("batch", (nn.BatchNorm1d, nn.BatchNorm2d)), ("group", nn.GroupNorm)):
        model = network(CIFAR, width=8, norm=norm)
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
        norms = [m for m in model.modules() if isinstance(m, kinds)]
        assert all(isinstance(m, kind) for m in norms)
        assert bool(norms) == (norm != "none")
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("network", [f for f in NETWORKS if f not in EXACT])
def test_zero_init_starts_at_the_loss_of_a_guess(network: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    model = network(CIFAR, zero_init=True, **({} if network is models.linear else {"width": 8}))
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 3, 5, 9])
    assert F.cross_entropy(model(x), y).item() == pytest.approx(math.log(10), rel=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_zero_init_of_a_resnet_zeroes_logits_and_the_last_scale_of_bottlenecks(name: str) -> None:
    model = getattr(models, name)(CIFAR, width=8, zero_init=True)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
    assert {name for name, p in model.named_parameters() if p.grad.abs().sum() > 0} == {"fc.weight", "fc.bias"}
    zero = {name for name, p in model.named_parameters() if name.endswith("weight") and not p.any()}
    bottlenecks = {f"layer{i}.{j}.bn3.weight" for i, n in enumerate((3, 4, 6, 3), 1) for j in range(n)}
    assert zero == {"fc.weight"} | (bottlenecks if name == "resnet50" else set())


def test_the_stem_suits_the_data_unless_told() -> None:
    assert models.resnet18(CIFAR).conv1.kernel_size == (3, 3)
    assert models.resnet18(IMAGENET).conv1.kernel_size == (7, 7)
    assert models.resnet18(CIFAR, stem="imagenet").conv1.kernel_size == (7, 7)
    assert isinstance(models.vgg11(CIFAR).classifier[-1], nn.Linear)
    assert len(models.vgg11(CIFAR).classifier) == 1


def test_the_pooled_stem_gives_the_maps_of_the_imagenet_stem_from_the_kernel_of_the_small_one() -> None:
    sizes = {}
    for stem in ("small", "pooled", "imagenet"):
        model = models.resnet18(CIFAR, stem=stem, width=4)
        model.layer1.register_forward_hook(lambda *seen, stem=stem: sizes.update({stem: seen[-1].shape}))
        model(torch.zeros(2, 3, 32, 32))
    assert sizes["pooled"] == sizes["imagenet"] == (2, 4, 8, 8)
    assert sizes["small"] == (2, 4, 32, 32)
    assert models.resnet18(CIFAR, stem="pooled", width=4).conv1.kernel_size == (3, 3)


@pytest.mark.parametrize("network", [models.vgg11, models.densenet121])
def test_a_network_without_the_pooled_stem_refuses_it(network: Callable[..., nn.Module]) -> None:
    with pytest.raises(RunError, match="stem=pooled: this network has only small, imagenet"):
        network(CIFAR, stem="pooled", width=4)


def test_width_scales_parameters_by_about_its_square() -> None:
    count = {w: sum(p.numel() for p in models.resnet18(CIFAR, width=w).parameters()) for w in (64, 32)}
    assert count[64] == pytest.approx(11.17e6, rel=1e-3)
    assert 3.9 < count[64] / count[32] < 4.1


def test_an_image_too_small_for_vgg_names_the_cure() -> None:
    with pytest.raises(UsageError, match=r"dataset\.image_size=32"):
        models.vgg16(DataShape(1, 8, 10, "small"))


@pytest.mark.parametrize(
    ("init", "times_fan_in"), [("torch", 1 / 3), ("kaiming", 1.0), ("kaiming_fan_in", 2.0), ("haiku", 0.7737)]
)
def test_initial_variances_are_those_of_their_sources(init: str, times_fan_in: float) -> None:
    """A convolution with half as many inputs as outputs: 2/fan_out = 1/fan_in."""
    torch.manual_seed(0)
    weight = models.resnet18(CIFAR, init=init).layer4[0].conv1.weight
    fan_in = weight[0].numel()
    assert weight.var().item() * fan_in == pytest.approx(times_fan_in, rel=0.02)
    if init == "haiku":
        assert weight.abs().max().item() == pytest.approx(2 * fan_in**-0.5, rel=1e-3)


def test_kaiming_fan_in_draws_linear_layers_too_and_no_bias() -> None:
    torch.manual_seed(0)
    fc = models.resnet20(CIFAR, width=64, init="kaiming_fan_in").fc
    assert fc.weight.var().item() * 256 == pytest.approx(2, rel=0.1)
    assert 0 < fc.bias.abs().max().item() <= 1 / 16  # torch's own bound, 1/√256


# ------------------------------------------------------------- small exact problems


def test_logistic_regression_is_one_logit_of_weights_alone() -> None:
    model = models.logistic(TABLE)
    (theta,) = model.parameters()
    x = torch.randn(5, 30)
    torch.testing.assert_close(model(x), x @ theta.T)
    assert theta.shape == (1, 30)
    assert not any(p.any() for p in models.logistic(TABLE, zero_init=True).parameters())


def test_a_deep_linear_network_is_the_product_of_its_matrices() -> None:
    model = models.deep_linear(GREY, width=4, depth=2)
    W1, W2, W3 = model.parameters()
    assert [W.shape for W in (W1, W2, W3)] == [(4, 1024), (4, 4), (10, 4)]
    x = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(model(x), x.flatten(1) @ (W3 @ W2 @ W1).T)


def test_a_vector_is_multiplied_by_each_matrix() -> None:
    model = models.vector(QUADRATICS)
    A = torch.randn(3, 7, 7)
    torch.testing.assert_close(model(A), torch.stack([a @ model.theta for a in A]))


@pytest.mark.parametrize("shape", [CIFAR, GREY, TABLE, DataShape(1, 10, 10, "small")])
def test_a_vector_fits_quadratics_alone(shape: DataShape) -> None:
    with pytest.raises(RunError, match="dataset=quadratic"):
        models.vector(shape)


def test_one_logit_is_not_enough_for_ten_classes() -> None:
    with pytest.raises(RunError, match="10 outputs: take model=linear"):
        models.logistic(CIFAR)


@pytest.mark.parametrize("network", CONVOLUTIONAL)
@pytest.mark.parametrize("shape", [TABLE, QUADRATICS])
def test_a_convolutional_network_needs_images(network: Callable[..., nn.Module], shape: DataShape) -> None:
    with pytest.raises(RunError, match="needs images"):
        network(shape, **({} if network in EXACT else {"stem": "small"}))
