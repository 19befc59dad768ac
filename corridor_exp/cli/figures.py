"""`corridor-figures`: the paper's figures and its claims, from run directories alone."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from corridor_exp.cli.arguments import Parser
from corridor_exp.config.mistakes import suggestion
from corridor_exp.config.options import CONF_DIR, defaults_of_optimizers
from corridor_exp.errors import UsageError
from corridor_exp.files import to_json
from corridor_exp.runs.layout import ENDED
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps import grids
from corridor_exp.sweeps.figure_runs import OUTPUTS, REFERENCE, find, known_figures

if TYPE_CHECKING:
    from corridor_exp.runs.groups import Runs
    from corridor_exp.runs.reading import Run

log = logging.getLogger(__name__)
PAPER = [f"fig{number}" for number in range(1, 10)]


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """Draw a figure, all nine, or the stability plot of any sweep; or print the claims."""
    parser = Parser(
        prog="corridor-figures",
        description="From run directories alone: fig1 … fig9 and any other figure of conf/figure/, `all` nine of the "
        "paper, `stability` (how runs end against their learning rate, for any sweep), `map` (whether CLR's first "
        "steps predict how it ends: docs/when-clr-works.md), or `claims` (the paper's claims with statistic, values by "
        "seed and verdict). Writes OUT/NAME.pdf, .png, .csv (the plotted numbers) "
        "and .txt (the caption), or OUT/claims.json.",
        epilog="Runs are those of the newest corridor-sweep of that figure under outputs/, or else outputs/reference/. "
        "Example: corridor-sweep figure=fig2 scale=mini && corridor-figures fig2. Exit codes: 0 done, 1 a file could "
        "not be written, 2 bad usage, 75 stopped.",
    )
    parser.add_argument("what", metavar="WHAT", help="fig1 … fig9 | all | claims | stability | map")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="a folder of runs; or one with a folder for each figure, or with such folders in full/ and mini/",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", default=OUTPUTS / "figures", help="default: outputs/figures")
    parser.add_argument("--json", action="store_true", help="claims: as a list of objects")
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> None:
    if args.what == "claims":
        claims(args.runs, args.out, args.json)
    elif args.what == "stability":
        stability(args.runs, args.out)
    elif args.what == "map":
        draw_map(args.runs or REFERENCE / "map", args.out)
    else:
        draw_all(PAPER if args.what == "all" else [args.what], args.runs, args.out)


def option(name: str) -> grids.Figure:
    if name not in known_figures():
        every = [*known_figures(), "all", "claims", "stability", "map"]
        raise UsageError(f"{name}: no such figure{suggestion(name, every)} ({', '.join(every)})")
    return grids.load_figure([CONF_DIR], name)


def draw_all(names: list[str], place: Path | None, out: Path) -> None:
    """Draw those whose runs are there. Raises `UsageError` that names the others."""
    figures = {name: option(name) for name in names}
    missing = [name for name, figure in figures.items() if not draw(name, figure, place, out)]
    if missing:
        where = place or f"{OUTPUTS}/ and {REFERENCE}/"
        raise UsageError(
            f"no runs of {', '.join(missing)} in {where}: corridor-sweep figure={missing[0]} scale=mini makes them; "
            "those of the paper lie in outputs/reference of the repository (--runs DIR)"
        )


def draw(name: str, figure: grids.Figure, place: Path | None, out: Path) -> bool:
    """Draw a figure, unless it needs runs that are not there; whether it was drawn."""
    from corridor_exp.figures import curves, rivals, sensitivity, style, surfaces  # matplotlib, only now

    if not figure.grids and not figure.runs:
        style.save(*surfaces.draw(figure.title), out / name)
        _caption(out / name, f"{figure.title}. No runs: surfaces of corridor_exp.theory.")
        return True
    targets = _targets(figure)
    if not (figure.panels or targets):
        raise UsageError(f"{name} has no panels to draw: conf/figure/{name}.yaml says how its runs are read")
    runs = find(name, place)
    if runs:
        _complain(runs.runs)
    if runs and targets:
        runs = _ended(replace(runs, runs=[run for run in runs.runs if run.config.get("name") in targets]))
    if not runs:
        return False
    what = figure.title if runs.figure or targets else runs.networks  # any runs can be drawn as a figure draws its own
    shown = [f"scale={runs.scale}"] if runs.scale not in (None, "full") else []
    shown += runs.changed
    title = f"{what} ({', '.join(shown)})" if shown else what
    if targets:
        defaults = defaults_of_optimizers()
        style.save(*sensitivity.draw(runs, targets, defaults, title), out / name)
        (out / f"{name}.md").write_text(rivals.table(runs, targets, defaults) + "\n", encoding="utf-8")
    else:
        style.save(*curves.draw(runs, figure.panels, title), out / name)
    _caption(out / name, runs.caption(what))
    return True


def _ended(runs: Runs) -> Runs:
    """The runs that have completed or diverged, because only ends can be compared. Says how many others there are."""
    if runs.unfinished:
        log.warning("%s: they are left out", runs.unfinished)
    return replace(runs, runs=[run for run in runs.runs if run.status in ENDED])


def _targets(figure: grids.Figure) -> dict[str, float]:
    """Those of a benchmark, or of the benchmarks whose runs it shows."""
    shown = [option(name).targets for name in figure.runs.split()]
    return figure.targets or {problem: loss for targets in shown for problem, loss in targets.items()}


def _complain(runs: Sequence[Run]) -> None:
    """Name the runs that cannot be read: they are no evidence, and the others are drawn."""
    for run in runs:
        if run.complaint:
            log.warning("%s", run.complaint)


def _caption(figure: Path, caption: str) -> None:
    """Print it, and leave it beside the figure, where corridor-report finds it."""
    figure.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
    print(f"{figure.name}: {caption}")


def stability(place: Path | None, out: Path) -> None:
    from corridor_exp.figures import stability, style
    from corridor_exp.runs.groups import Runs

    if place is None:
        raise UsageError("stability needs --runs DIR, the folder of a sweep")
    runs = Runs.read(place)
    if not runs:
        raise UsageError(f"no runs in {place}: corridor-sweep dataset=digits model=mlp optim=sgd optim.lr=0.01,0.1,1")
    _complain(runs.runs)
    style.save(*stability.draw(runs, "How training ends, by learning rate"), out / "stability")
    _caption(out / "stability", runs.caption("How training ends, by learning rate"))


def draw_map(place: Path, out: Path) -> None:
    """Print the table of the map, and draw it. `place` holds its sweeps, or files that scripts/thin_lines.py wrote."""
    from corridor_exp.figures import cases, map, style
    from corridor_exp.runs import thinned

    found = thinned.runs_below(place)
    _complain(found)
    whole = [run for run in found if run.records and not run.faults]
    runs = [run for run in whole if all(run.config.get(key) is not None for key in cases.NEEDED)]
    if not runs:
        raise UsageError(f"no runs in {place}: corridor-sweep figure=map_digits, map_full and map_cifar make them")
    drawn = map.Map.of(runs)
    print(drawn.table())
    style.save(*map.draw(drawn), out / "map")
    _caption(out / "map", f"When does CLR work? {len(runs)} runs from {place}; docs/when-clr-works.md")


def claims(place: Path | None, out: Path, as_json: bool) -> None:
    from corridor_exp.figures.claims import CLAIMS
    from corridor_exp.figures.verdicts import judge, ledger

    found = {name: find(name, place) for name in PAPER}
    # What is not known to be a figure's runs is no evidence for its claim.
    found = {name: runs for name, runs in found.items() if runs and runs.figure == name}
    if not found:
        where = place or f"{OUTPUTS}/ and {REFERENCE}/"
        raise UsageError(f"no figure's runs in {where}: corridor-sweep figure=fig2 scale=mini")
    for runs in filter(None, found.values()):
        _complain(runs.runs)
    rows = [judge(claim, found.get(claim.figure)) for claim in CLAIMS]
    as_text = to_json([asdict(row) for row in rows], indent=2)
    out.mkdir(parents=True, exist_ok=True)
    (out / "claims.json").write_text(as_text + "\n", encoding="utf-8")  # for corridor-report
    print(as_text if as_json else ledger(rows))


if __name__ == "__main__":
    main()
