"""Which memory a run asks for before its first step."""

from __future__ import annotations

import pytest

from corridor_exp.engine.first_batch import fit_to_memory
from tests.conftest import engine_of


@pytest.mark.parametrize(
    ("options", "hessian"),
    [
        (["probe=none"], False),
        (["probe=corridor"], True),
        (["probe=[corridor,noise]", "probe.corridor.hessian=false", "probe.noise.hessian=false"], False),
        (["probe=[corridor,sharpness]", "probe.corridor.hessian=false"], True),
    ],
)
def test_memory_for_a_hessian_product_is_asked_for_where_a_look_needs_it(
    options: list[str], hessian: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_of(*options)
    asked: list[bool] = []
    monkeypatch.setattr(engine.objective, "fits", lambda batch, hessian: asked.append(hessian) or True)
    fit_to_memory(engine)
    assert asked == [hessian]
    assert engine.objective.micro_batch is None
