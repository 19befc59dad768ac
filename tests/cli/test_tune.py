"""`corridor-tune`: which settings it tries, which it chooses, and that it goes on where it was stopped."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from corridor_exp.cli import tune
from corridor_exp.files import to_json
from corridor_exp.runs import layout, records
from corridor_exp.sweeps.frozen import Sweep
from corridor_exp.sweeps.tuning import Interval, Tuning

Run = Callable[..., int]
DIGITS = ["dataset=digits", "model=mlp", "optim=sgd", "logger=jsonl", "out_dir=search"]
SMALL = [*DIGITS, "model.width=16", "epochs=6", "batch_size=100"]


class Pretended:
    """In the place of training: each run ends at once, as `outcome` says of its configuration."""

    def __init__(self, outcome: Callable[[dict[str, Any]], dict[str, float] | None], stop_after: float = math.inf):
        self.outcome, self.stop_after, self.rounds = outcome, stop_after, list[int]()

    def __call__(self, sweep: Sweep, settings: object) -> str:
        todo = [folder for folder in sweep.folders if not (folder / layout.SUMMARY_FILE).exists()]
        self.rounds.append(len(todo))
        for folder in todo:
            if not self.stop_after:
                return "stopped"
            self.stop_after -= 1
            config = yaml.safe_load((folder / layout.CONFIG_FILE).read_text())
            metrics = self.outcome(config)
            status = {"status": "completed" if metrics else "diverged", "metrics": metrics or {}}
            record = {"step": 9, "epoch": 0, "time": 1.0, records.TRAIN_EVALUATIONS: 10.0}
            (folder / layout.RECORDS_FILE).write_text(to_json(record) + "\n")
            (folder / layout.SUMMARY_FILE).write_text(to_json(status))
        return "ended"


def peak_at(rate: float) -> Callable[[dict[str, Any]], dict[str, float] | None]:
    """A held-out accuracy that is highest at one learning rate; above 5 a run diverges."""

    def outcome(config: dict[str, Any]) -> dict[str, float] | None:
        lr = config["optim"]["lr"]
        accuracy = 0.9 - 0.1 * math.log10(lr / rate) ** 2 - 0.01 * config["seed"]
        return {records.TEST_ACCURACY: accuracy, records.TEST_LOSS: 1.0} if lr <= 5 else None

    return outcome


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pretended]:
    def install(*args: Any, **kwargs: Any) -> Pretended:
        pretended = Pretended(*args, **kwargs)
        monkeypatch.setattr(tune, "start", pretended)
        return pretended

    return install


def found() -> dict[str, Any]:
    return json.loads(Path("search/tune.json").read_text())


def tried(key: str = "optim.lr") -> list[float]:
    option, _, name = key.partition(".")
    folders = Sweep.open(Path("search").absolute()).folders
    return [yaml.safe_load((f / layout.CONFIG_FILE).read_text())[option][name] for f in folders]


def test_a_list_is_trained_on_what_is_left_and_chosen_on_what_is_held_out(corridor_tune: Run, capsys) -> None:
    assert corridor_tune(*SMALL, "optim.lr=0.01,0.3,1e30", "processes=2") == 0
    shown = capsys.readouterr().out
    summaries = [json.loads(Path(f"search/{n}/summary.json").read_text()) for n in range(3)]
    assert [s["status"] for s in summaries] == ["completed", "completed", "diverged"]
    assert summaries[0]["train_images"] == 1350
    assert found()["best"] == {"optim.lr": "0.3"}
    assert found()["value"] == summaries[1]["metrics"][records.TEST_ACCURACY]
    assert found()["between"] == {"optim.lr": [0.01, 1e30]}
    assert 2 * 6 * 14 < found()["evaluations"] < 3 * 6 * 14
    assert found()["evaluations_of_best"] == 6 * 14
    assert "best: optim.lr=0.3 " in shown
    assert corridor_tune(*SMALL, "optim.lr=0.01,0.3,1e30", "processes=2") == 0
    assert capsys.readouterr().out == shown


def test_an_interval_is_a_grid_and_then_what_optuna_proposes(corridor_tune: Run, pretend) -> None:
    pretended = pretend(peak_at(0.3))
    assert corridor_tune(*DIGITS, "optim.lr=0.001..10", "trials=14", "processes=3") == 0
    assert pretended.rounds == [5, 3, 3, 3]
    assert tried()[:5] == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert all(0.001 <= lr <= 10 for lr in tried())
    best = float(found()["best"]["optim.lr"])
    assert abs(math.log10(best / 0.3)) < 0.4  # nearer than the grid's, at half a decade
    assert best == min(tried(), key=lambda lr: abs(math.log10(lr / 0.3)))
    lower, higher = found()["between"]["optim.lr"]
    assert lower < best < higher
    assert (found()["runs"], found()["evaluations"]) == (14, 140)


@pytest.mark.parametrize("stop_after", [3, 6])
def test_a_search_that_is_stopped_goes_on_and_proposes_what_it_would_have(
    corridor_tune: Run, pretend, monkeypatch: pytest.MonkeyPatch, stop_after: int, tmp_path: Path
) -> None:
    search = [*DIGITS, "optim.lr=0.001..10", "trials=7", "processes=2"]
    pretend(peak_at(0.3))
    assert corridor_tune(*search) == 0
    uninterrupted = tried()
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    pretend(peak_at(0.3), stop_after=stop_after)
    assert corridor_tune(*search) == 75
    pretend(peak_at(0.3))
    assert corridor_tune(*search) == 0
    assert tried() == uninterrupted
    assert corridor_tune(*search[:-2], "trials=9", "processes=2") == 0
    assert len(tried()) == 9
    assert tried()[:7] == uninterrupted


def test_two_intervals_are_searched_together(corridor_tune: Run, pretend) -> None:
    def outcome(config: dict[str, Any]) -> dict[str, float]:
        lr, momentum = config["optim"]["lr"], config["optim"]["momentum"]
        return {records.TEST_ACCURACY: 1 - (math.log10(lr) + 1) ** 2 - (momentum - 0.45) ** 2, records.TEST_LOSS: 0.0}

    pretend(outcome)
    assert corridor_tune(*DIGITS, "optim.lr=0.01..1", "optim.momentum=0..0.9:linear", "trials=12") == 0
    assert sorted(set(tried()[:9])) == [0.01, 0.1, 1.0]
    assert sorted(set(tried("optim.momentum")[:9])) == [0.0, 0.45, 0.9]
    assert len(tried()) == 12
    assert found()["best"] == {"optim.lr": "0.1", "optim.momentum": "0.45"}


def test_the_mean_over_the_seeds_counts_and_a_setting_that_diverges_is_never_chosen(
    corridor_tune: Run, pretend, capsys
) -> None:
    def outcome(config: dict[str, Any]) -> dict[str, float] | None:
        lr, seed = config["optim"]["lr"], config["seed"]
        table = {0.1: (0.5, 0.7), 0.2: (0.9, 0.1), 0.4: (0.99, None)}
        accuracy = table[lr][seed]
        return None if accuracy is None else {records.TEST_ACCURACY: accuracy, records.TEST_LOSS: 0.0}

    pretend(outcome)
    assert corridor_tune(*DIGITS, "optim.lr=0.1,0.2,0.4", "seed=0,1") == 0
    assert (found()["best"], found()["value"]) == ({"optim.lr": "0.1"}, pytest.approx(0.6))
    assert "smallest that was tried" in capsys.readouterr().out
    assert (found()["settings"], found()["runs"]) == (3, 6)


def test_of_equal_accuracies_the_lower_loss_is_better(corridor_tune: Run, pretend) -> None:
    pretend(lambda c: {records.TEST_ACCURACY: 0.5, records.TEST_LOSS: abs(c["optim"]["lr"] - 0.2)})
    assert corridor_tune(*DIGITS, "optim.lr=0.1,0.2,0.4") == 0
    assert found()["best"] == {"optim.lr": "0.2"}


def test_of_equal_costs_the_lower_training_loss_is_better_and_the_test_set_has_no_say(
    corridor_tune: Run, pretend
) -> None:
    def outcome(config: dict[str, Any]) -> dict[str, float]:
        trained, tested = {0.1: (0.009, 1.0), 0.2: (0.004, 9.0)}[config["optim"]["lr"]]
        return {records.TRAIN_EVALUATIONS: 50.0, records.TRAIN_EPOCH_LOSS: trained, records.TEST_LOSS: tested}

    pretend(outcome)
    assert corridor_tune(*DIGITS, "optim.lr=0.1,0.2", "metric=train/evaluations", "target_loss=0.01") == 0
    assert found()["best"] == {"optim.lr": "0.2"}


def test_an_optimizer_is_chosen_by_its_group(corridor_tune: Run, pretend, capsys) -> None:
    """`optim.name=clr` would be another thing on a command line."""
    pretend(lambda c: {records.TEST_ACCURACY: 0.5 + 0.1 * (c["optim"]["name"] == "clr"), records.TEST_LOSS: 0.0})
    assert corridor_tune(*DIGITS, "optim=sgd,clr") == 0
    assert found()["best"] == {"optim": "clr"}
    assert "best: optim=clr " in capsys.readouterr().out


@pytest.mark.parametrize("trials", [4, 5, 6])
def test_with_more_trials_the_grid_is_completed_and_no_setting_comes_twice(
    corridor_tune: Run, pretend, trials: int
) -> None:
    pretend(lambda c: {records.TEST_ACCURACY: 0.5, records.TEST_LOSS: 0.0})
    search = [*DIGITS, "optim.lr=0.01..1", "optim.momentum=0..0.9:linear"]
    assert corridor_tune(*search, f"trials={trials}") == 0
    assert corridor_tune(*search, "trials=11") == 0
    settings = list(zip(tried(), tried("optim.momentum"), strict=True))
    assert set(itertools.product([0.01, 0.1, 1.0], [0.0, 0.45, 0.9])) <= set(settings)
    assert len(set(settings)) == len(settings) == 11
    assert corridor_tune(*search, "trials=7") == 0  # fewer than there are: nothing is added
    assert len(tried()) == 11


def test_the_end_of_an_interval_is_not_rounded_beyond_it(corridor_tune: Run, pretend) -> None:
    pretend(lambda c: {records.TEST_ACCURACY: 0.5, records.TEST_LOSS: 0.0})
    assert corridor_tune(*DIGITS, "optim.momentum=0..0.99999:linear", "trials=2") == 0
    assert tried("optim.momentum") == [0.0, 0.99999]


def test_the_best_can_be_given_to_a_command_again(corridor_tune: Run, pretend, capsys) -> None:
    pretend(lambda c: {records.TEST_ACCURACY: 0.5, records.TEST_LOSS: c["optim"]["step_cap"] or 0.0})
    assert corridor_tune(*DIGITS, "optim=clr", "optim.step_cap=1,10,null") == 0
    assert found()["best"] == {"optim.step_cap": "null"}
    assert "best: optim.step_cap=null" in capsys.readouterr().out


def test_the_cost_of_a_target_counts_only_where_the_target_is_reached(corridor_tune: Run, pretend) -> None:
    """The cheapest run has not got there; nothing is held out for a metric of training."""

    def outcome(config: dict[str, Any]) -> dict[str, float]:
        cost, loss = {0.1: (50.0, 0.3), 0.2: (90.0, 0.01), 0.4: (70.0, 0.009)}[config["optim"]["lr"]]
        assert config["dataset"]["held_out"] is None
        return {records.TRAIN_EVALUATIONS: cost, records.TRAIN_EPOCH_LOSS: loss}

    pretend(outcome)
    search = [*DIGITS, "optim.lr=0.1,0.2,0.4", "metric=train/evaluations"]
    assert corridor_tune(*search, "target_loss=0.01") == 0
    assert (found()["best"], found()["value"]) == ({"optim.lr": "0.4"}, 70)


def test_a_search_without_any_value_has_failed(corridor_tune: Run, pretend, capsys) -> None:
    pretend(lambda config: None)
    assert corridor_tune(*DIGITS, "optim.lr=0.1,0.2") == 1
    assert "no setting has a test/accuracy to choose by" in capsys.readouterr().err


def test_a_failed_run_ends_the_search_which_can_go_on(corridor_tune: Run, pretend, monkeypatch, capsys) -> None:
    pretended = pretend(peak_at(0.3))

    def broken(sweep: Sweep, settings: object) -> str:
        pretended(sweep, settings)
        (sweep.folders[1] / layout.SUMMARY_FILE).write_text('{"status": "failed", "error": "no memory"}')
        return "ended"

    monkeypatch.setattr(tune, "start", broken)
    search = [*DIGITS, "optim.lr=0.01..1", "trials=7"]
    assert corridor_tune(*search) == 1
    assert "1 runs failed" in capsys.readouterr().err
    assert len(tried()) == 5
    Path("search/1/summary.json").unlink()
    monkeypatch.setattr(tune, "start", pretended)
    assert corridor_tune(*search) == 0
    assert len(tried()) == 7


def test_a_search_whose_runs_refuse_a_change_has_failed(corridor_tune: Run, capsys) -> None:
    """And does not take the runs of before for its own."""
    argv = [*SMALL, "optim.lr=0.01,0.1", "epochs=1"]
    assert corridor_tune(*argv) == 0
    found = Path("search/tune.json").read_bytes()
    assert corridor_tune(*argv, "model.width=8", "resume.override=true") == 1
    assert "2 runs failed" in capsys.readouterr().err
    assert Path("search/tune.json").read_bytes() == found


def test_an_interval_needs_optuna_and_a_list_does_not(corridor_tune: Run, pretend, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    pretend(peak_at(0.3))
    assert corridor_tune(*DIGITS, "optim.lr=0.1..1") == 2
    assert "needs optuna: pip install '.[tune]'" in capsys.readouterr().err
    assert corridor_tune(*DIGITS, "optim.lr=0.1,1") == 0


def test_an_interval_is_read_with_its_scale() -> None:
    assert Interval.read("optim.lr=1e-3..10") == Interval("optim.lr", 0.001, 10.0, True)
    assert Interval.read("optim.momentum=0..0.9:linear") == Interval("optim.momentum", 0.0, 0.9, False)
    assert Interval.read("dataset.root=../data") is None
    assert Interval.read("optim.lr=0.1,1") is None
    assert Interval("x", 1.0, 100.0, True).grid(3) == pytest.approx([1, 10, 100])
    assert Interval("x", -1.0, 1.0, False).grid(5) == [-1, -0.5, 0, 0.5, 1]
    assert Tuning.take(["trials=3", "seed=1"]) == (Tuning(trials=3), ["seed=1"])


def test_another_search_in_the_folder_of_a_former_one_is_refused(corridor_tune: Run, pretend, capsys) -> None:
    """Its runs would answer for an interval that nobody has searched."""
    pretend(peak_at(0.3))
    assert corridor_tune(*DIGITS, "optim.lr=0.01..0.1", "trials=5") == 0
    before = found()
    for other in (["optim.lr=1..10"], ["optim.lr=0.01..0.1:linear"], ["optim.lr=0.01..0.1", "metric=train/epoch_loss"]):
        assert corridor_tune(*DIGITS, *other, "trials=5") == 2
        assert "holds another sweep" in capsys.readouterr().err
    assert found() == before


def test_a_search_begins_at_the_ends_of_its_intervals(corridor_tune: Run, capsys) -> None:
    assert corridor_tune(*DIGITS, "optim.lr=0.01..1", "optim.momentum=0..0.9:linear", "trials=3") == 2
    assert "trials=3: the search begins at the 4 ends" in capsys.readouterr().err
    assert not Path("search").exists()


def test_a_key_has_one_interval(corridor_tune: Run, capsys) -> None:
    assert corridor_tune(*DIGITS, "optim.lr=0.1..1", "optim.lr=0.01..10") == 2
    assert "optim.lr has 2 intervals" in capsys.readouterr().err
