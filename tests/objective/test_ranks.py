"""Several ranks as one run: the same numbers as one, and the same end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corridor_exp.engine.first_batch import fit_to_memory
from corridor_exp.engine.loop import Engine
from corridor_exp.objective import Objective
from corridor_exp.objective import ranks as distributed
from corridor_exp.objective.batches import LocalBatch, Stream
from corridor_exp.objective.ranks import ALONE, Ranks
from corridor_exp.runs import records
from tests.conftest import engine_of, small_network, without_time
from tests.objective.ranks import MLP, exit_codes, said, small_engine, started, train

# --------------------------------------------------------------------------- parts


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_parts_are_in_order_cover_all_and_differ_by_one_at_most(size: int, count: int) -> None:
    images = list(range(count))
    parts = [images[Ranks(rank, size).part(count)] for rank in range(size)]
    assert [image for part in parts for image in part] == images
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, ALONE),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}, Ranks(1, 2, 1)),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, ALONE),  # in a batch script
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, Ranks(3, 4, 1)),
    ],
)
def test_the_launcher_says_which_rank_this_is(monkeypatch, environment: dict[str, str], ranks: Ranks) -> None:
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert distributed.launched() == ranks


# ------------------------------------------------------------------- the same numbers


def trajectory(engine: Engine) -> tuple[list[records.Record], list[Tensor]]:
    told: list[records.Record] = []
    engine.emit = told.append
    assert engine.train() == "completed"
    return told, [p.detach() for p in engine.objective.theta]


def small_run(micro_batch: int | None) -> None:
    ranks = distributed.launched()
    with distributed.connected(ranks):
        told, theta = trajectory(small_engine(ranks, micro_batch))
        torch.save((told, theta), f"{ranks.rank}.pt")


@pytest.mark.parametrize(("size", "micro_batch"), [(2, None), (4, None), (2, 3)])
def test_ranks_follow_the_trajectory_of_one_in_float64(size: int, micro_batch: int | None) -> None:
    expected, theta = trajectory(small_engine(ALONE))
    assert exit_codes(started(size, small_run, micro_batch)) == [0] * size
    for rank in range(size):
        told, theta_there = torch.load(f"{rank}.pt", weights_only=True)
        for a, b in zip(theta, theta_there, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-10)
        for line, same in zip(expected, told, strict=True):
            assert line.keys() == same.keys()
            for key in line.keys() - {"time"}:
                # Norms of differences of float32 losses apart, all is float64.
                assert same[key] == pytest.approx(line[key], rel=1e-6, abs=1e-9), key


def sharded_run(optim: str, micro_batch: int | None) -> None:
    """Train sharded: as a whole, and stopped and resumed from what was saved."""
    ranks = distributed.launched()
    with distributed.connected(ranks):
        engine = small_engine(ranks, micro_batch, sharded=True, optim=optim)
        fit_to_memory(engine)  # as on every CUDA device
        assert all(p.to_local().numel() < p.numel() or p.numel() == 1 for p in engine.objective.theta)
        told, theta = trajectory(engine)
        whole = [p.full_tensor() for p in theta]
        first, second = (small_engine(ranks, micro_batch, sharded=True, optim=optim) for _ in range(2))
        first.should_stop = lambda: first.progress.step == 5
        assert first.train() == "preempted"
        second.load_state_dict(first.state_dict())
        assert all(torch.equal(a.full_tensor(), b) for a, b in zip(trajectory(second)[1], whole, strict=True))
        torch.save((told, whole), f"{ranks.rank}.pt")


@pytest.mark.parametrize(
    ("optim", "micro_batch"), [("clr", None), ("clr", 3), ("clr_momentum", None), ("sgd", None), ("adam", None)]
)
def test_shards_follow_the_trajectory_of_one_rank_whose_norm_is_of_the_whole(
    optim: str, micro_batch: int | None
) -> None:
    alone = small_engine(ALONE, optim=optim)
    alone.probes = ()
    expected, theta = trajectory(alone)
    assert exit_codes(started(2, sharded_run, optim, micro_batch)) == [0, 0], said(0) + said(1)
    for rank in range(2):
        told, theta_there = torch.load(f"{rank}.pt", weights_only=True)
        for a, b in zip(theta, theta_there, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-10)
        for line, same in zip(expected, told, strict=True):
            for key in line.keys() & {"train/lr", "train/grad_norm", "train/epoch_loss"}:
                assert same[key] == pytest.approx(line[key], rel=1e-6)


def test_a_sharded_model_cannot_be_looked_at_and_says_what_to_do() -> None:
    argv = [*MLP, "engine.shard=true", "max_steps=2"]
    assert exit_codes(started(2, train, *argv, "out_dir=out")) == [1, 1]
    assert "set probe=none" in said(0)
    assert exit_codes(started(2, train, *argv, "probe=none", "out_dir=out2")) == [0, 0], said(0)
    assert exit_codes(started(1, train, *argv, "probe=none", "out_dir=out3")) == [1]
    assert "needs several ranks" in said(0)


def quantities(ranks: Ranks) -> list[Tensor]:
    """All that an objective can be asked for, on a batch and on a stream."""
    model, mine = small_network(), ranks.part(13)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(13, 1, 5, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (13,), generator=generator)
    batch = LocalBatch(x[mine], y[mine], 13)
    stream = Stream(26, lambda: iter([batch, batch]))
    objective = Objective(model, ranks=ranks)
    v = [torch.ones_like(p) for p in objective.theta]
    found: list[Tensor] = []
    for where in (batch, stream):
        E, g, hg = objective.gradient_and_hg(where)
        found += [E, *g, *hg, *objective.hessian_product(where, v), objective.loss(where)]
    evaluation = objective.evaluate(batch)
    assert evaluation.correct is not None
    return [*found, objective.trial(batch)(objective.theta), evaluation.loss, evaluation.correct]


def all_quantities() -> None:
    ranks = distributed.launched()
    with distributed.connected(ranks):
        torch.save(quantities(ranks), f"{ranks.rank}.pt")


@pytest.mark.parametrize("size", [2, 4])
def test_every_quantity_is_added_up_before_a_norm_is_taken(size: int) -> None:
    expected = quantities(ALONE)
    assert exit_codes(started(size, all_quantities)) == [0] * size
    for rank in range(size):
        for a, b in zip(expected, torch.load(f"{rank}.pt", weights_only=True), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-6 if a.dtype == torch.float32 else 1e-10, atol=1e-10)


def test_a_run_of_two_ranks_is_one_run_directory_and_resumes_to_its_own_bits() -> None:
    argv = [*MLP, "epochs=6", "log_every=1", "probe.every=5"]
    assert exit_codes(started(2, train, *argv, "out_dir=whole")) == [0, 0]
    processes = started(2, stopped_at, 9, *argv, "out_dir=out")
    assert exit_codes(processes) == [75, 75]
    first = next(records.read_records(Path("out")))
    assert exit_codes(started(2, train, *argv, "out_dir=out")) == [0, 0]
    assert next(records.read_records(Path("out"))) == first  # its time too
    whole, out = (without_time(folder) for folder in ("whole", "out"))
    assert out == whole
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["ranks"] == 2
    alone, emitted = engine_of(*MLP, "epochs=6", "log_every=1", "probe.every=5")
    assert alone.train() == "completed"
    assert out[0]["train/loss"] == pytest.approx(emitted[0]["train/loss"], rel=1e-5)
    assert exit_codes(started(1, train, *argv, "epochs=7", "out_dir=out")) == [2]


def stopped_at(step: int, *argv: str) -> None:
    """The command, told to stop at a step: on the last rank only."""
    train_ = Engine.train

    def stopped(engine: Engine) -> str:
        if not engine.ranks.is_first:
            engine.should_stop = lambda: engine.progress.step == step
        return train_(engine)

    Engine.train = stopped  # type: ignore[method-assign]
    train(*argv)


def test_a_test_batch_may_have_fewer_images_than_there_are_ranks() -> None:
    argv = [*MLP, "dataset.test_size=41", "engine.micro_batch=20", "epochs=1", "probe=none", "out_dir=out"]
    assert exit_codes(started(2, train, *argv)) == [0, 0], said(0)
    (last,) = without_time("out")[-1:]
    assert (41 * last[records.TEST_ACCURACY]) % 1 == pytest.approx(0, abs=1e-6)
