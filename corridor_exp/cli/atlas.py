"""`corridor-atlas`: when, where and in which layers a run was near a corridor."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from corridor_exp import records, targets
from corridor_exp.cli.arguments import Parser
from corridor_exp.config import Config
from corridor_exp.errors import RunError, UsageError
from corridor_exp.files import load_yaml


def main(argv: list[str] | None = None) -> None:
    """Print the table of a run, and write atlas.png, atlas.pdf and atlas.csv into its directory."""
    parser = Parser(
        prog="corridor-atlas",
        usage="%(prog)s RUN [allow_targets=[PREFIX]]",
        description="From a run's records: its tenths of training, the median corridor index (by autodiff, and over "
        "CLR's step) and decrease ratio in each, the share of looks beyond what a convex quadratic can reach (index "
        "below ½, decrease ratio above ¾), and the layer that holds most of ‖Hg‖². A run whose records have no looks "
        "is looked at now, at each checkpoint that it has kept (checkpoint.keep=N keeps more), on one fixed batch. If "
        "it has targets of your own, add allow_targets=[PREFIX].",
        epilog="Example: corridor-train dataset=digits model=mlp probe.every=10 out_dir=run; corridor-atlas run. "
        "Exit codes: 0 done, 2 bad usage.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    try:
        args = parser.parse_args(targets.take(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        parser.error(str(error))
    try:
        written = list(records.read_records(args.run))
    except (FileNotFoundError, NotADirectoryError):
        parser.error(f"{args.run} is no run directory: it has no {records.RECORDS_FILE}")
    looks = [r for r in written if r.get(records.CORRIDOR_INDEX) is not None]
    try:
        looks = looks or looks_at_checkpoints(args.run)
    except (UsageError, RunError) as error:
        parser.error(str(error))
    if not looks:
        parser.error(f"{args.run} has neither looks nor checkpoints: train with probe=corridor")

    from corridor_exp.figures import atlas  # matplotlib, only now

    summary = atlas.phases(looks, total_steps=written[-1]["step"] + 1)
    print(atlas.table(summary))
    print("\nmedian (share of looks beyond the threshold, which no convex quadratic with minimum 0 reaches)")
    atlas.write_csv(summary, args.run / "atlas.csv")
    figure = atlas.draw(looks, summary, title=f"{args.run.resolve().parent.name}/{args.run.resolve().name}")
    for kind in ("png", "pdf"):
        figure.savefig(args.run / f"atlas.{kind}", dpi=200)
    print(f"written: {args.run / 'atlas.png'}, atlas.pdf, atlas.csv", file=sys.stderr)


def looks_at_checkpoints(directory: Path) -> list[records.Record]:
    """What `probe=corridor probe.corridor.images=fixed` would have recorded at the run's checkpoints, oldest first."""
    from corridor_exp import checkpoint  # torch, only now
    from corridor_exp.build import build_engine
    from corridor_exp.probes import Corridor
    from corridor_exp.run import tell

    config = Config.parse(load_yaml(directory / records.CONFIG_FILE))
    engine = build_engine(config)
    probe = Corridor("fixed", dataset=engine.dataset, batch_size=engine.plan.batch_size)
    looks = []
    for state in tqdm(
        checkpoint.load_all(directory / records.CHECKPOINTS, tell), "looking at checkpoints", unit="checkpoint"
    ):
        engine.load_state_dict(state["engine"])
        batch = next(iter(engine.dataset.train_batches(0, engine.plan.batch_size)))
        seen = {**probe.look(engine.objective, batch), records.TRAIN_LOSS: engine.objective.loss(batch)}
        numbers = {key: value.item() for key, value in seen.items()}
        looks.append({"step": engine.progress.step, **{k: v if v == v else None for k, v in numbers.items()}})
    return looks[::-1]


if __name__ == "__main__":
    main()
