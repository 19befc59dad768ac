"""Factories of other libraries and of users are called with what they ask for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import get_model_builder, list_models

from corridor_exp.models import mlp, resnet18
from corridor_exp.models.foreign import arguments_for
from corridor_exp.objective.batches import DataShape

SHAPE = DataShape(3, 32, 7, "small")
SHAPE_ALONE: Any = ([SHAPE], {})
CLASSES: Any = ([], {"num_classes": 7})


def like_timm(pretrained: bool = False, **kwargs: Any) -> None: ...


def names_it(num_classes: int, width: int = 3) -> None: ...


def of_the_shape(data: Any, width: int = 3, **kwargs: Any) -> None: ...


def takes_all(*args: Any, **kwargs: Any) -> None: ...


def asks_nothing(width: int = 3) -> None: ...


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        (like_timm, CLASSES),
        (names_it, CLASSES),
        (of_the_shape, SHAPE_ALONE),
        (takes_all, SHAPE_ALONE),
        (asks_nothing, ([], {})),
        (mlp, SHAPE_ALONE),
        (resnet18, SHAPE_ALONE),
    ],
)
def test_a_factory_is_told_what_it_asks_for(factory: Any, told: Any) -> None:
    assert arguments_for(factory, SHAPE) == told


def test_every_classifier_of_torchvision_is_told_the_number_of_classes() -> None:
    import torchvision

    builders = [get_model_builder(name) for name in list_models(module=torchvision.models)]
    assert len(builders) > 70
    assert [builder for builder in builders if arguments_for(builder, SHAPE) != CLASSES] == []


def test_a_builder_of_torchvision_gets_its_head() -> None:
    args, kwargs = arguments_for(get_model_builder("shufflenet_v2_x0_5"), SHAPE)
    model = get_model_builder("shufflenet_v2_x0_5")(*args, **kwargs).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
