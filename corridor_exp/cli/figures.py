"""`corridor-figures`: the paper's figures and its claims, from run directories alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from corridor_exp.cli.arguments import Parser
from corridor_exp.config import targets
from corridor_exp.config.mistakes import suggestion
from corridor_exp.config.options import CONF_DIR
from corridor_exp.errors import UsageError, in_words
from corridor_exp.runs.records import to_json
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps import grids
from corridor_exp.sweeps.frozen import Sweep

if TYPE_CHECKING:
    from corridor_exp.figures.runs import Runs

OUTPUTS, REFERENCE = Path("outputs"), Path("outputs/reference")
PAPER = [f"fig{number}" for number in range(1, 10)]


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """Draw a figure, all nine, or the stability plot of any sweep; or print the claims."""
    parser = Parser(
        prog="corridor-figures",
        description="From run directories alone: fig1 … fig9 and any other figure of conf/figure/, `all` nine of the "
        "paper, `stability` (how runs end against their learning rate, for any sweep), or `claims` (the paper's "
        "claims with statistic, values by seed and verdict). Writes OUT/NAME.pdf, .png, .csv (the plotted numbers) "
        "and .txt (the caption), or OUT/claims.json.",
        epilog="Runs are those of the newest corridor-sweep of that figure under outputs/, or else outputs/reference/. "
        "Example: corridor-sweep figure=fig2 scale=mini && corridor-figures fig2. Exit codes: 0 done, 1 a file could "
        "not be written, 2 bad usage.",
    )
    parser.add_argument("what", metavar="WHAT", help="fig1 … fig9 | all | claims | stability")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="a folder of runs, or of one such folder a figure")
    parser.add_argument("--out", type=Path, metavar="DIR", default=OUTPUTS / "figures", help="default: outputs/figures")
    parser.add_argument("--json", action="store_true", help="claims: as a list of objects")
    try:
        # It builds nothing of a run, and takes what the other commands take, so that one line of flags fits all.
        args = parser.parse_args(targets.take(sys.argv[1:] if argv is None else argv))
        if args.what == "claims":
            claims(args.runs, args.out, args.json)
        elif args.what == "stability":
            stability(args.runs, args.out)
        else:
            draw_all(PAPER if args.what == "all" else [args.what], args.runs, args.out)
    except UsageError as error:
        parser.error(str(error))
    except OSError as error:
        tell(f"cannot write {in_words(error)}")
        sys.exit(1)


def known_figures() -> list[str]:
    return sorted(file.stem for file in CONF_DIR.glob("figure/*.yaml"))


def option(name: str) -> grids.Figure:
    if name not in known_figures():
        every = [*known_figures(), "all", "claims", "stability"]
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
    from corridor_exp.figures import curves, rivals, style, surfaces  # matplotlib, only now

    if not figure.grids and not figure.runs:
        style.save(*surfaces.draw(figure.title), out / name)
        _caption(out / name, f"{figure.title}. No runs: surfaces of corridor_exp.theory.")
        return True
    runs = find(name, place)
    if runs is None:
        return False
    _complain(runs)
    smaller = f" (scale={runs.scale})" if runs.scale not in (None, "full") else ""
    title = figure.title + smaller
    if targets := _targets(figure):
        style.save(*rivals.draw(runs, targets, title), out / name)
        (out / f"{name}.md").write_text(rivals.table(runs, targets) + "\n", encoding="utf-8")
    else:
        style.save(*curves.draw(runs, figure.panels, title), out / name)
    _caption(out / name, runs.caption(figure.title))
    return True


def _targets(figure: grids.Figure) -> dict[str, float]:
    """Those of a benchmark, or of the benchmarks whose runs it shows."""
    shown = [option(name).targets for name in figure.runs.split()]
    return figure.targets or {problem: loss for targets in shown for problem, loss in targets.items()}


def _complain(runs: Runs) -> None:
    """Name the runs that cannot be read: they are no evidence, and the others are drawn."""
    for run in runs.runs:
        if run.complaint:
            tell(run.complaint)


def tell(message: str) -> None:
    print(f"corridor-figures: {message}", file=sys.stderr, flush=True)


def _caption(figure: Path, caption: str) -> None:
    """Print it, and leave it beside the figure, where corridor-report finds it."""
    figure.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
    print(f"{figure.name}: {caption}")


def stability(place: Path | None, out: Path) -> None:
    from corridor_exp.figures import stability, style
    from corridor_exp.figures.runs import Runs

    if place is None:
        raise UsageError("stability needs --runs DIR, the folder of a sweep")
    runs = Runs.read(place)
    if not runs:
        raise UsageError(f"no runs in {place}: corridor-sweep dataset=digits model=mlp optim=sgd optim.lr=0.01,0.1,1")
    _complain(runs)
    style.save(*stability.draw(runs, "How training ends, by learning rate"), out / "stability")
    _caption(out / "stability", runs.caption("How training ends, by learning rate"))


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
        _complain(runs)
    rows = [judge(claim, found.get(claim.figure)) for claim in CLAIMS]
    as_text = to_json([row.as_dict() for row in rows], indent=2)
    out.mkdir(parents=True, exist_ok=True)
    (out / "claims.json").write_text(as_text + "\n", encoding="utf-8")  # for corridor-report
    print(as_text if as_json else ledger(rows))


def find(name: str, place: Path | None) -> Runs | None:
    """What a figure shows: its own runs, and beside them those that it shares with other figures, all of one scale.

    A figure without grids of its own shows the runs of the others, unless they were made by its own command.
    """
    from corridor_exp.figures.runs import Runs

    figure, own = option(name), _newest(name, place)
    if own is None and figure.grids:
        return None
    if own and not (own.figure and figure.runs and figure.grids):
        return own
    parts = [own] if own else []
    for other in figure.runs.split():
        runs = _newest(other, place, parts[0].scale if parts else None)
        if runs and runs.figure:
            parts.append(runs.among(optim__name=figure.optim) if figure.optim else runs)
    return Runs.together(name, parts) if parts else None


def _newest(name: str, place: Path | None, scale: str | None = None) -> Runs | None:
    """A figure's own runs: in `place` or its folder of that name; or the newest sweep of it, or the reference.

    Of a certain scale, if one is named. Runs that say nothing of a figure may be anyone's.
    """
    from corridor_exp.figures.runs import Runs

    if place is None:
        folders = [folder for pattern in (name, f"{name}-*") for folder in OUTPUTS.glob(f"{pattern}/sweep-*")]
        sweeps = sorted(_sweeps(folders), key=lambda sweep: sweep.time, reverse=True)
        places = [*(sweep.directory for sweep in sweeps), REFERENCE / name]
    elif any((place / figure).is_dir() for figure in known_figures()):
        places = [place / name]
    else:
        places = [place]
    found = (runs for runs in map(Runs.read, places) if runs and runs.figure in (name, None))
    return next((runs for runs in found if scale in (runs.scale, None)), None)


def _sweeps(folders: list[Path]) -> Iterator[Sweep]:
    """Those that can be read; the others are told."""
    for folder in folders:
        try:
            sweep = Sweep.open(folder)
        except UsageError as error:
            tell(str(error))
        else:
            if sweep:
                yield sweep


if __name__ == "__main__":
    main()
