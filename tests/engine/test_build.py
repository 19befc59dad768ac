"""What is refused before the first step: a batch of which batch norm would see one image alone."""

from __future__ import annotations

import pytest
import torch

from corridor_exp.errors import RunError
from tests.conftest import engine_of, same, weights

SMALL_NET = ["model=mlp", "model.norm=batch", "probe=none"]  # its batch norm has one value a channel of an image
# The last convolution sees 1 × 1 pixels of 8 × 8. float32, because after such a run in bf16, in the same process, torch
# 2.14 crashes in a later float32 backward pass (of a VGG) on an AMD processor with bf16 units.
CONVOLUTIONS = ["model=resnet18", "model.width=4", "probe=none", "engine.precision=fp32"]


@pytest.mark.parametrize(
    "argv",
    [
        ["dataset.train_size=65", "batch_size=64"],
        ["dataset.train_size=7", "batch_size=7", "engine.micro_batch=3"],
        ["dataset.train_size=8", "batch_size=4", "engine.micro_batch=1"],
        ["dataset.train_size=8", "batch_size=1"],
        ["dataset.train_size=1", "batch_size=64"],
        ["dataset.train_size=65", "batch_size=64", "max_steps=2"],
        ["dataset.train_size=65", "batch_size=64", "max_steps=1", "probe=sharpness", "probe.sharpness.images=train"],
    ],
)
@pytest.mark.parametrize("network", [SMALL_NET, CONVOLUTIONS], ids=["mlp", "resnet18"])
def test_an_image_that_batch_norm_would_see_alone_is_refused_before_training(
    network: list[str], argv: list[str]
) -> None:
    with pytest.raises(RunError, match=r"leaves one image of \d+ alone.*dataset\.drop_last=true"):
        engine_of(*network, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        [*SMALL_NET, "dataset.train_size=65", "batch_size=64", "dataset.drop_last=true"],
        [*SMALL_NET, "dataset.train_size=65", "batch_size=64", "max_steps=1"],
        [*SMALL_NET, "dataset.train_size=66", "batch_size=64", "engine.micro_batch=2", "max_steps=2"],
        [*SMALL_NET, "model.norm=none", "dataset.train_size=65", "batch_size=64", "max_steps=2"],
        [*CONVOLUTIONS, "dataset.train_size=5", "batch_size=4", "dataset.image_size=16", "max_steps=2"],
    ],
)
def test_what_batch_norm_can_train_on_is_trained_on(argv: list[str]) -> None:
    assert engine_of(*argv)[0].train() == "completed"


def test_looking_for_an_image_alone_changes_no_bit() -> None:
    seen = []
    for n in (8, 5):
        engine, _ = engine_of(*CONVOLUTIONS, f"dataset.train_size={n}", "batch_size=4", "dataset.image_size=16")
        seen.append([*weights(engine), torch.get_rng_state()])
    assert same(*seen)
