"""CLR in the loops of Lightning and accelerate: docs/step-sizes.md says how, and this is what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from corridor_exp.optim import CLR
from tests.conftest import small_batch, small_network

BATCH, PARTS = 8, 4


def loader(size: int, images: int = 22) -> DataLoader[Any]:
    """By default three batches of 8, the last of which is short, or 11 parts of 2."""
    x, y = small_batch(images)[:2]
    return DataLoader(TensorDataset(x, y), batch_size=size)


def expected(parts: int, size: int, images: int = 22) -> tuple[list[Tensor], float]:
    """Weights after an epoch, and the last h, of a loop of one's own: a step on each `parts` batches of `size`."""
    model = small_network()
    optimizer = CLR(model.parameters())
    batches = list(loader(size, images))
    for i in range(0, len(batches), parts):
        loss = sum(nn.functional.cross_entropy(model(x), y) for x, y in batches[i : i + parts]) / parts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(loss=loss)
    return [p.detach() for p in model.parameters()], optimizer.param_groups[0]["lr"].item()


def lightning(parts: int, size: int, images: int = 22, *, recipe: bool) -> tuple[list[Tensor], float]:
    """The same under Lightning's automatic optimization."""
    import pytorch_lightning as pl

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = small_network()

        def configure_optimizers(self) -> CLR:
            self.optimizer = CLR(self.model.parameters())
            return self.optimizer

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return nn.functional.cross_entropy(self.model(x), y)

    class Recipe(Plain):
        mean_loss: Tensor | float = 0.0

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.mean_loss += loss.detach() / self.trainer.accumulate_grad_batches
            return loss

        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer_closure()
            loss = self.trainer.strategy.reduce(self.mean_loss, reduce_op="mean")
            optimizer.step(lambda: loss)
            self.mean_loss = 0.0

    module = Recipe() if recipe else Plain()
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, accumulate_grad_batches=parts, barebones=True)
    trainer.fit(module, loader(size, images))
    return [p.detach() for p in module.model.parameters()], module.optimizer.param_groups[0]["lr"].item()


def accelerated(parts: int, size: int) -> tuple[list[Tensor], float]:
    """The same under accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
    network = small_network()
    model, optimizer, batches = accelerator.prepare(network, CLR(network.parameters()), loader(size))
    mean_loss: Tensor | float = 0.0
    for x, y in batches:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            mean_loss += loss.detach() / accelerator.gradient_accumulation_steps
            if accelerator.sync_gradients:
                mean_loss = accelerator.reduce(mean_loss, "mean")
            optimizer.step(lambda: mean_loss)  # noqa: B023
            optimizer.zero_grad()
            if accelerator.sync_gradients:
                mean_loss = 0.0
    with pytest.raises(TypeError, match="loss"):
        optimizer.step(loss=loss)
    return [p.detach() for p in network.parameters()], optimizer.param_groups[0]["lr"].item()


def assert_equal(found: tuple[list[Tensor], float], wanted: tuple[list[Tensor], float]) -> None:
    assert found[1] == pytest.approx(wanted[1], rel=1e-10)
    for p, q in zip(found[0], wanted[0], strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("error:the closure added")
def test_lightning_steps_as_a_loop_of_ones_own() -> None:
    assert_equal(lightning(1, BATCH, recipe=False), expected(1, BATCH))
    assert_equal(lightning(PARTS, BATCH // PARTS, recipe=True), expected(PARTS, BATCH // PARTS))


def test_lightnings_own_closure_with_accumulation_is_warned_of() -> None:
    """The loss that it returns is that of the last part, and divided by their number."""
    with pytest.warns(UserWarning, match="the closure added its gradient to an earlier one"):
        _, h = lightning(PARTS, BATCH // PARTS, BATCH, recipe=False)
    assert h < 0.5 * expected(PARTS, BATCH // PARTS, BATCH)[1]


@pytest.mark.filterwarnings("error:the closure added")
@pytest.mark.parametrize("parts", [1, PARTS])
def test_accelerate_steps_as_a_loop_of_ones_own(parts: int) -> None:
    assert_equal(accelerated(parts, BATCH // parts), expected(parts, BATCH // parts))
