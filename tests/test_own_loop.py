"""The examples of docs/own-loop.md, as they stand there."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

import corridor_exp
from corridor_exp.probes import Look, anywhere
from corridor_exp.runs import records

TEXT = (Path(__file__).parents[1] / "docs" / "own-loop.md").read_text()
NAMES = "single", "plain", "accelerate", "lightning"
EXAMPLES = dict(zip(NAMES, re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL), strict=True))


@pytest.fixture(autouse=True)
def _no_accelerator_before_or_after() -> Iterator[None]:
    """Its state belongs to the process, and refuses another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def run(example: str) -> tuple[dict[str, Any], str]:
    """The names that the example leaves, and what it prints."""
    names: dict[str, Any] = {"__name__": "example"}
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(example, names)
    return names, out.getvalue()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # of the frameworks
def test_an_example_sees_and_leaves_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Look] = []

    def noted(*args: Any, **kwargs: Any) -> Look:
        seen.append(anywhere.look(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(corridor_exp, "look", noted, raising=False)
    looking, out = run(EXAMPLES[name])
    assert len(seen) == (1 if name == "single" else 4)
    assert all(look[records.CORRIDOR_INDEX] > 0 for look in seen)
    assert records.CORRIDOR_INDEX in out
    monkeypatch.setattr(corridor_exp, "look", lambda *args, **kwargs: Look())
    blind, _ = run(EXAMPLES[name])
    pairs = zip(looking["model"].parameters(), blind["model"].parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


def test_the_look_sees_the_accumulated_batch_without_autocast() -> None:
    """The loss of the last look is that of a float32 pass over the last four parts, at θ before the last step."""
    keep = "before = [p.clone() for p in model.parameters()]\n        "
    names, _ = run(EXAMPLES["plain"].replace("scaler.step", keep + "scaler.step"))
    model, (images, labels) = names["model"], names["loader"].dataset.tensors
    with torch.no_grad():
        for p, value in zip(model.parameters(), names["before"], strict=True):
            p.copy_(value)
        loss = names["criterion"](model(images[-80:]), labels[-80:])
    assert names["seen"][records.TRAIN_LOSS] == pytest.approx(loss.item(), rel=1e-6)


def test_clr_steps_by_the_mean_loss_and_the_unscaled_gradient() -> None:
    """Its last step is that of the look at the same θ, but for autocast's rounding."""
    names, _ = run(EXAMPLES["plain"])
    (group,) = names["optimizer"].param_groups
    assert 0 < group["lr"].item() == pytest.approx(names["seen"][records.CLR_STEP], rel=0.02)
