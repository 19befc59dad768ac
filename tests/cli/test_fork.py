"""`fork_from=RUN[@STEP]`: another run's state, and on from there as this run says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from corridor_exp.runs import checkpoint, layout, records

Run = Callable[..., int]
SGD = ["optim=sgd", "optim.momentum=0.9", "dataset.train_size=200", "batch_size=50", "log_every=1", "probe=none"]


def states(directory: str) -> dict:
    newest = checkpoint.load_newest(Path(directory) / layout.CHECKPOINTS)
    assert newest is not None
    return newest["engine"]


def losses(directory: str) -> dict[int, float]:
    return {r["step"]: r[records.TRAIN_LOSS] for r in records.read_records(Path(directory))}


@pytest.fixture
def parent(digits_run: Run) -> list[str]:
    """Three epochs of four steps, saved at steps 5, 10 and 12."""
    argv = [*SGD, "optim.lr=0.05", "epochs=3", "checkpoint.every=5", "checkpoint.keep=9"]
    assert digits_run(*argv, "out_dir=parent") == 0
    return argv


def test_with_nothing_changed_but_the_length_it_goes_on_like_the_longer_run(digits_run: Run, parent: list[str]) -> None:
    assert digits_run(*parent, "epochs=6", "out_dir=whole") == 0
    for place in ("parent@5", "parent"):
        fork = f"fork_{place}"
        assert digits_run(*parent, "epochs=6", f"fork_from={place}", f"out_dir={fork}") == 0
        first = 5 if "@" in place else 12
        assert losses(fork) == {step: loss for step, loss in losses("whole").items() if step >= first}
        summary = json.loads(Path(fork, "summary.json").read_text())
        assert summary["parent"] == {"run": place, "step": first, "evaluations": first}
        for name, tensor in states("whole")["model"].items():
            assert torch.equal(states(fork)["model"][name], tensor)


def test_a_changed_learning_rate_takes_effect_and_the_momentum_comes_over(digits_run: Run, parent: list[str]) -> None:
    assert digits_run(*parent, "optim.lr=0.2", "max_steps=6", "fork_from=parent@5", "out_dir=fork") == 0
    saved = {s["engine"]["progress"]["step"]: s["engine"] for s in checkpoint.load_all(Path("parent/checkpoints"))}
    before, parents, forks = saved[5], losses("parent"), states("fork")
    assert losses("fork") == {5: parents[5]}  # the same batch at the same θ
    for i, (name, theta) in enumerate(before["model"].items()):
        velocity = forks["optimizer"]["state"][i]["momentum_buffer"]
        gradient = velocity - 0.9 * before["optimizer"]["state"][i]["momentum_buffer"]
        assert gradient.norm() > 0
        torch.testing.assert_close(forks["model"][name], theta - 0.2 * velocity)


def test_another_optimizer_begins_afresh_at_the_parents_weights(digits_run: Run, parent: list[str]) -> None:
    argv = [key for key in parent if not key.startswith("optim")]
    assert digits_run(*argv, "optim=clr", "max_steps=14", "epochs=9", "fork_from=parent", "out_dir=fork") == 0
    (first, *_) = records.read_records(Path("fork"))
    assert first["step"] == 12
    assert first["train/lr"] == pytest.approx(first["train/loss"] / first["train/grad_norm"] ** 2, rel=1e-5)


def test_the_schedule_is_this_runs_own_at_the_parents_step(digits_run: Run, parent: list[str]) -> None:
    cosine = ["optim.lr=1.0", "optim/schedule=cosine", "optim.schedule.warmup=2", "epochs=6"]
    assert digits_run(*parent, *cosine, "out_dir=whole") == 0
    assert digits_run(*parent, *cosine, "fork_from=parent@10", "out_dir=fork") == 0
    rates = {r["step"]: r["train/lr"] for r in records.read_records(Path("whole"))}
    assert {r["step"]: r["train/lr"] for r in records.read_records(Path("fork"))} == {
        step: rate for step, rate in rates.items() if step >= 10
    }


def test_another_batch_size_and_seed_go_on_from_the_same_images(digits_run: Run, parent: list[str]) -> None:
    assert digits_run(*parent, "batch_size=20", "seed=7", "fork_from=parent@10", "out_dir=fork") == 0
    steps = [r["step"] for r in records.read_records(Path("fork"))]
    assert steps == list(range(10, 15))  # 100 of the 200 images of the last epoch were left


def test_an_override_takes_effect_in_a_resumed_run_too(digits_run: Run, parent: list[str]) -> None:
    argv = [*parent, "optim.lr=0.2", "epochs=4", "resume.override=true", "out_dir=parent"]
    assert digits_run(*argv) == 0
    rates = {r["step"]: r["train/lr"] for r in records.read_records(Path("parent"))}
    assert rates == {**dict.fromkeys(range(12), 0.05), **dict.fromkeys(range(12, 16), 0.2)}


def test_a_stopped_fork_resumes_from_its_own_checkpoint_even_without_its_parent(
    digits_run: Run, parent: list[str], monkeypatch
) -> None:
    from corridor_exp.engine.loop import Engine

    fork = [*parent, "epochs=6", "fork_from=parent"]
    assert digits_run(*fork, "out_dir=whole") == 0
    train = Engine.train

    def stopped(engine: Engine) -> str:
        engine.should_stop = lambda: engine.progress.step == 15
        return train(engine)

    monkeypatch.setattr(Engine, "train", stopped)
    assert digits_run(*fork, "out_dir=fork") == 75
    monkeypatch.setattr(Engine, "train", train)
    Path("parent").rename("gone")
    assert digits_run(*fork, "out_dir=fork") == 0
    assert losses("fork") == losses("whole")
    assert json.loads(Path("fork/summary.json").read_text())["parent"]["step"] == 12


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fork_from=nowhere"], "nowhere has no checkpoints/"),
        (["fork_from=parent@7"], "no checkpoint '7'; there are those of the steps 5, 10, 12"),
        (["fork_from=parent@best"], "no checkpoint 'best'"),
        (["fork_from=parent", "model.width=8"], "does not fit this model"),
        (["fork_from=parent"], "nothing left to train: set epochs or max_steps higher"),
        (["fork_from=foreign"], "not one of corridor-train: it has no config and no engine"),
    ],
)
def test_what_cannot_be_forked_is_said_in_one_line(
    digits_run: Run, parent: list[str], capsys, argv: list[str], said: str
) -> None:
    Path("foreign").mkdir()
    checkpoint.save(Path("foreign", layout.CHECKPOINTS), 3, {"model": {}}, keep=1)
    capsys.readouterr()
    assert digits_run(*parent, *argv, "out_dir=fork") == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_the_best_epoch_is_kept_apart_and_can_be_forked(digits_run: Run, parent: list[str]) -> None:
    argv = [*parent, "epochs=9", "optim.lr=0.3", "checkpoint.keep=1"]
    for metric, best in (("test/accuracy", max), ("train/epoch_loss", min)):
        folder = metric.replace("/", "-")
        assert digits_run(*argv, f"checkpoint.best={metric}", f"out_dir={folder}") == 0
        values = {r["step"] + 1: r[metric] for r in records.read_records(Path(folder)) if metric in r}
        (file,) = Path(folder, "checkpoints").glob("best_*.pt")
        step = int(file.name.split("_")[1].split(".")[0])
        assert step == next(k for k, value in values.items() if value == best(values.values()))
        assert digits_run(*argv, "epochs=20", f"fork_from={folder}@best", f"out_dir={folder}-fork") == 0
        assert next(iter(losses(f"{folder}-fork"))) == step


def test_a_fork_begins_with_no_best_epoch_and_no_metrics(digits_run: Run, parent: list[str]) -> None:
    best = [*parent, "checkpoint.best=test/accuracy"]
    assert digits_run(*best, "probe=corridor", "probe.every=1", "out_dir=first") == 0
    argv = [*parent, "checkpoint.best=test/loss", "epochs=6", "fork_from=first"]
    assert digits_run(*argv, "out_dir=fork") == 0
    values = {r["step"] + 1: r["test/loss"] for r in records.read_records(Path("fork")) if "test/loss" in r}
    (file,) = Path("fork/checkpoints").glob("best_*.pt")
    assert int(file.name.split("_")[1].split(".")[0]) == min(values, key=lambda step: values[step])
    summary = json.loads(Path("fork/summary.json").read_text())
    assert summary["metrics"].keys() == set().union(*records.read_records(Path("fork"))) - {"step", "epoch", "time"}
    assert summary["parent"]["evaluations"] == 12


def test_a_resumed_run_with_another_metric_has_a_best_epoch_of_its_own(digits_run: Run, parent: list[str]) -> None:
    argv = [*parent, "out_dir=run"]
    assert digits_run(*argv, "checkpoint.best=test/accuracy") == 0
    assert digits_run(*argv, "checkpoint.best=test/loss", "epochs=6", "resume.override=true") == 0
    (file,) = Path("run/checkpoints").glob("best_*.pt")
    assert int(file.name.split("_")[1].split(".")[0]) > 12


@pytest.mark.parametrize("how", [["fork_from=run", "out_dir=next"], ["resume.override=true", "out_dir=run"]])
def test_the_mean_of_an_epoch_is_of_one_loss(digits_run: Run, parent: list[str], how: list[str]) -> None:
    """Ten of twelve steps are cross-entropy; the mean of the last epoch is that of the other steps, under mse."""
    assert digits_run(*parent, "max_steps=10", "out_dir=run") == 0
    assert digits_run(*parent, "loss=mse", *how) == 0
    under_mse = [r for r in records.read_records(Path(how[1].removeprefix("out_dir="))) if r["step"] >= 10]
    mean = sum(r["train/loss"] for r in under_mse) / 2
    assert under_mse[-1]["train/epoch_loss"] == pytest.approx(mean, rel=1e-6)


def test_a_fork_from_the_end_of_an_epoch_begins_the_next_one(digits_run: Run, parent: list[str]) -> None:
    """The parent's last checkpoint of an epoch may come before its evaluation; a smaller data set ends it too."""
    assert digits_run(*parent, "checkpoint.every=4", "out_dir=saved") == 0
    assert digits_run(*parent, "fork_from=saved@8", "out_dir=fork") == 0
    first = next(iter(records.read_records(Path("fork"))))
    assert (first["step"], first["epoch"]) == (8, 2)
    assert digits_run(*parent, "fork_from=parent@10", "dataset.train_size=100", "epochs=4", "out_dir=smaller") == 0
    assert [(r["step"], r["epoch"]) for r in records.read_records(Path("smaller"))] == [(10, 3), (11, 3)]


def test_a_search_of_forks_counts_and_chooses_by_what_they_did_themselves(
    digits_run: Run, parent: list[str], corridor_tune: Run
) -> None:
    def found(directory: str) -> tuple[float, float]:
        result = json.loads(Path(directory, "tune.json").read_text())
        return result["evaluations"], result["evaluations_of_best"]

    fork = [
        "dataset=digits",
        "model=mlp",
        "model.width=16",
        "logger=jsonl",
        *parent,
        f"fork_from={Path('parent').absolute()}",
    ]
    fork += ["optim.lr=0.01,0.3", "dataset.held_out=0.1"]
    assert corridor_tune(*fork, "epochs=4", "out_dir=search") == 0
    assert found("search") == (8, 4)
    longer = [*fork, "epochs=9", "max_steps=14", "metric=train/epoch_loss"]
    assert corridor_tune(*longer, "out_dir=none") == 1  # no epoch of a fork has ended


@pytest.mark.parametrize(("options", "changed"), [("sps_max", "smooth"), ("hazan_kakade", "adaptive")])
def test_what_changes_an_optimizers_memory_is_refused(digits_run: Run, capsys, options: str, changed: str) -> None:
    common = ["dataset.train_size=100", "batch_size=full", "probe=none", f"optim={options}"]
    assert digits_run(*common, "epochs=1", "out_dir=parent") == 0
    assert digits_run(*common, f"optim.{changed}=true", "epochs=2", "fork_from=parent", "out_dir=fork") == 2
    assert "remembers" in capsys.readouterr().err


def test_a_refused_override_leaves_a_finished_run_as_it_was(digits_run: Run, parent: list[str], capsys) -> None:
    before = {file: file.read_bytes() for file in Path("parent").iterdir() if file.is_file() and file.name != "log.txt"}
    assert digits_run(*parent, "model.width=8", "epochs=4", "resume.override=true", "out_dir=parent") == 2
    assert "size mismatch" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before
    assert digits_run(*parent, "out_dir=parent") == 0


def test_an_override_that_fails_before_it_trains_leaves_a_finished_run_as_it_was(
    digits_run: Run, parent: list[str], capsys
) -> None:
    before = {name: Path("parent", name).read_bytes() for name in ("config.yaml", "summary.json", "records.jsonl")}
    argv = [*parent, "dataset.train_size=99999", "resume.override=true", "out_dir=parent"]
    assert digits_run(*argv) == 1
    assert "99999" in capsys.readouterr().err
    assert {name: Path("parent", name).read_bytes() for name in before} == before
    assert digits_run(*parent, "out_dir=parent") == 0
