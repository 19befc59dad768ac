"""`corridor_exp.sweeps.tuning.Study`: which settings a search proposes."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from corridor_exp.sweeps.tuning import Interval, Study, Tuning

RATES = Interval("optim.lr", 0.001, 10.0, log=True)


def test_a_search_that_was_killed_while_it_proposed_its_grid_proposes_each_point_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path, [RATES], Tuning(trials=7))
    monkeypatch.setattr(study.study, "ask", Mock(side_effect=[None, KeyboardInterrupt]))
    with pytest.raises(KeyboardInterrupt):
        study.propose(1)
    again = Study(tmp_path, [RATES], Tuning(trials=7))
    while again.propose(1):
        pass
    proposed = [point["optim.lr"] for point in again.proposed]
    assert proposed[:5] == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert len(set(proposed)) == len(proposed) == 7
