from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corridor_exp.cli.atlas import looks_at_checkpoints, main
from corridor_exp.figures import atlas, growth
from corridor_exp.runs import records


def look(step: int, index: float, secant: float, decrease: float | None, **layers: float) -> records.Record:
    return {
        "step": step,
        records.TRAIN_LOSS: 1.0,
        records.HG_NORM: math.hypot(*layers.values()),
        records.CORRIDOR_INDEX: index,
        records.SECANT_CORRIDOR_INDEX: secant,
        records.GRADIENT_ALIGNMENT: 0.7,
        records.DECREASE_RATIO: decrease,
        **{records.LAYER_HG_NORM + name: value for name, value in layers.items()},
    }


def test_phases_are_tenths_with_medians_shares_and_layers() -> None:
    looks = [
        look(0, 0.4, 0.6, 0.8, a=3.0, b=4.0),
        look(5, 0.6, 0.6, 0.7, a=3.0, b=4.0),
        look(95, 0.2, 0.3, None, a=1.0, b=0.0),
    ]
    first, last = atlas.phases(looks, total_steps=100)
    assert (first.first_step, first.last_step, first.looks) == (0, 5, 2)
    assert first.medians[records.CORRIDOR_INDEX] == pytest.approx(0.5)
    assert first.near == {
        records.CORRIDOR_INDEX: 0.5,
        records.SECANT_CORRIDOR_INDEX: 0.0,
        records.GRADIENT_ALIGNMENT: 0.0,
        records.DECREASE_RATIO: 0.5,
    }
    assert first.layers == pytest.approx({"a": 9 / 25, "b": 16 / 25})
    assert last.near[records.CORRIDOR_INDEX] == 1.0
    assert last.near[records.DECREASE_RATIO] is None
    assert "b 64%" in atlas.table([first, last])


@pytest.mark.parametrize(("ratios", "said"), [([-2.0, 0.5], "1 look below −1"), ([-2.0, -3.0], "2 looks below −1")])
def test_what_lies_below_the_panel_is_counted_above_it(ratios: list[float], said: str) -> None:
    looks = [
        {"step": i, records.TRAIN_LOSS: 1.0, records.CORRIDOR_INDEX: 1.0, records.DECREASE_RATIO: ratio}
        for i, ratio in enumerate(ratios)
    ]
    panel = atlas.draw(looks, atlas.phases(looks, 2), "title").axes[1]
    (count,) = [text for text in panel.texts if "below" in text.get_text()]
    assert count.get_text() == said
    assert count.get_position()[1] > 1  # axes units: outside the panel, as is the legend


def test_a_quadratic_that_lies_on_the_thresholds_is_not_beyond_them() -> None:
    """In float32 ‖θ‖² has an index of 0.49999 and a decrease ratio of 0.75001 now and then."""
    (phase,) = atlas.phases([look(0, 0.49999, 0.49999, 0.75001, a=1.0)], total_steps=10)
    assert set(phase.near.values()) == {0.0}


def test_the_atlas_of_a_real_run(digits_run, capsys, tmp_path: Path) -> None:
    assert digits_run("epochs=4", "batch_size=100", "probe.every=3", "out_dir=out") == 0
    capsys.readouterr()
    main(["out"])
    out = capsys.readouterr().out
    assert "hidden1" in out or "logits" in out
    assert (tmp_path / "out/atlas.png").stat().st_size > 10_000
    assert (tmp_path / "out/atlas.pdf").exists()
    rows = list(csv.DictReader((tmp_path / "out/atlas.csv").open()))
    assert len(rows) == 10
    shares = [float(v) for k, v in rows[0].items() if k.startswith("share of Hg²")]
    assert sum(shares) == pytest.approx(1, abs=0.2)


def test_the_atlas_of_a_quadratic_finds_no_corridor(corridor_train, capsys) -> None:
    argv = ["dataset=quadratic", "model=vector", "batch_size=full", "epochs=5", "optim.scale=0.5", "out_dir=out"]
    assert corridor_train(*argv, "logger=jsonl", "probe.every=1") == 0
    capsys.readouterr()
    main(["out"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "–" in line[:6]]
    assert len(lines) == 5
    assert all(line[4] == line[6] == line[8] == "(0%)" for line in lines)


@pytest.mark.parametrize(("argv", "said"), [(["nowhere"], "no run directory"), (["out", "--bogus"], "--bogus")])
def test_mistakes_are_one_line(argv: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_run_without_looks_is_looked_at_through_its_checkpoints(digits_run, tmp_path: Path) -> None:
    """At its first step the looks are those that the same run with a probe has recorded."""
    common = ("epochs=2", "batch_size=100", "optim=sgd")
    digits_run(*common, "probe=none", "checkpoint.every=5", "checkpoint.keep=9", "out_dir=plain")
    digits_run(*common, "probe.corridor.images=fixed", "probe.every=5", "log_every=5", "out_dir=probed")
    expected = {r["step"]: r for r in records.read_records(tmp_path / "probed") if records.HG_NORM in r}
    looks = looks_at_checkpoints(tmp_path / "plain")
    assert [look["step"] for look in looks] == [5, 10, 15, 20, 25, 30]
    for look in looks[:-1]:
        for key, value in look.items():
            if key.startswith("probe/"):
                assert value == pytest.approx(expected[look["step"]][key], rel=1e-6), key
    main(["plain"])
    assert (tmp_path / "plain/atlas.png").exists()


def test_a_run_without_looks_or_checkpoints_says_how_to_get_some(digits_run, capsys, tmp_path: Path) -> None:
    digits_run("max_steps=1", "probe=none", "out_dir=out")
    for file in (tmp_path / "out/checkpoints").iterdir():
        file.unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["out"])
    assert "probe=corridor" in capsys.readouterr().err


def test_a_folder_whose_configuration_is_no_runs_is_named(digits_run, capsys) -> None:
    digits_run("epochs=1", "probe=none", "out_dir=plain")
    Path("plain/config.yaml").write_text("optim:\n  name: clr\n")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["plain"])
    assert "plain/config.yaml: seed is required" in capsys.readouterr().err


def test_the_atlas_downloads_no_data_set(corridor_train, monkeypatch, capsys, tmp_path: Path) -> None:
    """A folder from elsewhere names a data set that is not here."""
    monkeypatch.setattr("corridor_exp.datasets.cifar_mnist.fetch", lambda *args: pytest.fail("downloads"))
    argv = ["dataset=mnist", "model=mlp", "dataset.root=there", "probe=none", "--cfg", "job"]
    assert corridor_train(*argv) == 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(capsys.readouterr().out)
    (tmp_path / "run/records.jsonl").touch()
    with pytest.raises(SystemExit) as exit_:
        main(["run"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no MNIST under" in line
    assert line.endswith("corridor-atlas downloads no data: dataset.root in run/config.yaml says where they lie")


# ------------------------------------------------------------------- the growth condition


def tightest(full: list[float], batch: list[float]) -> float:
    """The least mean of (ρ full + δ)/batch over all corners: lines through two points, of slope 0, or through 0."""
    slopes = [0.0, *(y / x for x, y in zip(full, batch, strict=True))]
    slopes += [(batch[i] - batch[j]) / (full[i] - full[j]) for i in range(len(full)) for j in range(i)]
    corners = [(rho, max(0.0, *(y - rho * x for x, y in zip(full, batch, strict=True)))) for rho in slopes if rho >= 0]
    return min(mean_bound(*corner, full, batch) for corner in corners)


def mean_bound(rho: float, delta: float, full: list[float], batch: list[float]) -> float:
    return sum((rho * x + delta) / y for x, y in zip(full, batch, strict=True)) / len(full)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), decades=st.integers(1, 12))
def test_the_growth_condition_is_the_tightest_that_holds(seed: int, decades: int) -> None:
    draw = random.Random(seed)
    full = [10 ** draw.uniform(-decades, 0) for _ in range(12)]
    batch = [x * draw.uniform(1, 3) + draw.uniform(0, 0.1) * 10**-decades for x in full]
    rho, delta = growth.growth_condition(full, batch)
    assert all(y <= (rho * x + delta) * (1 + 1e-6) for x, y in zip(full, batch, strict=True))
    assert mean_bound(rho, delta, full, batch) == pytest.approx(tightest(full, batch), rel=1e-6)


def test_where_the_growth_condition_holds_with_equality_it_is_found() -> None:
    full = [1e-9, 1e-5, 0.1, 3.0]
    assert growth.growth_condition(full, [2 * x + 1e-7 for x in full]) == pytest.approx((2, 1e-7), rel=1e-6)
    assert growth.growth_condition(full, [4 * x for x in full]) == pytest.approx((4, 0), rel=1e-6)
    assert growth.growth_condition([3.0], [5.0])[0] == pytest.approx(5 / 3)


def test_the_atlas_tells_the_growth_condition_of_a_run_with_noise(digits_run, capsys) -> None:
    common = ["max_steps=4", "dataset.train_size=100", "batch_size=20", "probe.every=1"]
    assert digits_run(*common, "probe=[corridor,noise]", "out_dir=run") == 0
    main(["run"])
    assert "growth condition at 4 looks: E‖g_B‖² ≤ " in capsys.readouterr().out
    assert growth.sentence([{"step": 0, records.GROWTH_RATIO: None}]) is None
