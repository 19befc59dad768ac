"""`corridor-atlas`: when, where and in which layers a run was near a corridor."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from tqdm import tqdm

from corridor_exp.cli.arguments import Parser
from corridor_exp.config.schema import Config
from corridor_exp.errors import RunError, UsageError
from corridor_exp.runs import layout, reading, records
from corridor_exp.streams import steady_streams

log = logging.getLogger(__name__)
OF_A_LOOK = (records.CORRIDOR_INDEX, records.HG_NORM, records.TRAIN_LOSS)


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """Print the table of a run, and write atlas.png, atlas.pdf and atlas.csv into its directory."""
    parser = Parser(
        prog="corridor-atlas",
        usage="%(prog)s RUN [allow_targets=[PREFIX]]",
        description="For each tenth of a run's training: the medians of the corridor index (by autodiff, and by "
        "a secant to the midpoint of CLR's step), of the gradient's alignment there and of the decrease ratio; the "
        "share of looks beyond what a convex quadratic can reach (index below ½, the other two above ¾); the layer "
        "with most of ‖Hg‖²; with probe=[corridor,noise] also the growth condition of the gradients. If records have "
        "no looks, the run is measured now, at each of its checkpoints (checkpoint.keep=N keeps more), on one fixed "
        "batch. If it has targets of your own, add allow_targets=[PREFIX].",
        epilog="Example: corridor-train dataset=digits model=mlp probe.every=10 out_dir=run; corridor-atlas run. "
        "Exit codes: 0 done, 1 a file could not be written, 2 bad usage, 75 stopped.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> None:
    if not os.path.lexists(args.run / layout.RECORDS_FILE):
        raise UsageError(f"{args.run} is no run directory: it has no {layout.RECORDS_FILE}")
    run = reading.read(args.run)
    looks = [r for r in run.records if all(r.get(key) is not None for key in OF_A_LOOK)]
    try:
        looks = looks or looks_at_checkpoints(args.run)
    except (UsageError, RunError) as error:
        raise UsageError(run.complaint or str(error)) from None
    if not looks:
        raise UsageError(run.complaint or f"{args.run} has neither looks nor checkpoints: train with probe=corridor")
    if run.complaint:
        log.warning("%s; what stands before it is drawn", run.complaint)

    from corridor_exp.figures import atlas, growth  # matplotlib, only now

    summary = atlas.phases(looks, total_steps=(run.records or looks)[-1]["step"] + 1)
    print(atlas.table(summary))
    print("\nmedian (share of looks beyond the threshold, which no convex quadratic with minimum 0 reaches)")
    if condition := growth.sentence(looks):
        print(condition)
    figure = atlas.draw(looks, summary, title=atlas.title_of(run))
    atlas.write_csv(summary, args.run / "atlas.csv")
    for kind in ("png", "pdf"):
        figure.savefig(args.run / f"atlas.{kind}", dpi=200)
    print(f"written: {args.run / 'atlas.png'}, atlas.pdf, atlas.csv", file=sys.stderr)


def looks_at_checkpoints(directory: Path) -> list[records.Record]:
    """What `probe=corridor` sees on the first batch at the run's checkpoints, oldest first."""
    from corridor_exp.engine.build import build_engine
    from corridor_exp.engine.first_batch import first_batch
    from corridor_exp.probes import Corridor
    from corridor_exp.runs import checkpoint  # torch, only now

    stored = reading.config_of(directory)
    data = stored.get("dataset", {})
    if downloads := data.get("download"):
        data["download"] = False  # the folder may come from another machine, with data that are not here
    try:
        config = Config.parse(stored)
    except UsageError as error:
        raise UsageError(f"{directory / layout.CONFIG_FILE}: {error}") from None
    try:
        engine = build_engine(config)
    except RunError as error:
        if not downloads:
            raise
        raise RunError(
            f"{str(error).partition('. ')[0]}; corridor-atlas downloads no data: "
            f"dataset.root in {directory / layout.CONFIG_FILE} says where they lie"
        ) from error
    probe, batch, looks = Corridor(), first_batch(engine), []
    for state in tqdm(checkpoint.load_all(directory / layout.CHECKPOINTS), "looking at checkpoints", unit="checkpoint"):
        try:
            engine.load_state_dict(state["engine"])
        except (RuntimeError, ValueError):
            raise RunError(f"{directory}: its checkpoints do not fit its {layout.CONFIG_FILE}") from None
        seen = {**probe.look(engine.objective, batch), records.TRAIN_LOSS: engine.objective.loss(batch)}
        numbers = {key: value.item() for key, value in seen.items()}
        looks.append({"step": engine.progress.step, **{k: v if v == v else None for k, v in numbers.items()}})
    return looks[::-1]


if __name__ == "__main__":
    main()
