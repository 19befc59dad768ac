"""`corridor-atlas`: when, where and in which layers a run was near a corridor."""

from __future__ import annotations

import sys
from pathlib import Path

from corridor_exp import records
from corridor_exp.cli.arguments import Parser


def main(argv: list[str] | None = None) -> None:
    """Print the table of a run, and write atlas.png, atlas.pdf and atlas.csv into its directory."""
    parser = Parser(
        prog="corridor-atlas",
        description="From a run's records: its tenths of training, the median corridor index (by autodiff, and over "
        "CLR's step) and decrease ratio in each, the share of looks beyond what a convex quadratic can reach (index "
        "below ½, decrease ratio above ¾), and the layer that holds most of ‖Hg‖².",
        epilog="Example: corridor-train dataset=digits model=mlp probe.every=10 out_dir=run; corridor-atlas run. "
        "Exit codes: 0 done, 2 bad usage.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory whose run had probe=corridor")
    args = parser.parse_args(argv)
    try:
        written = list(records.read_records(args.run))
    except (FileNotFoundError, NotADirectoryError):
        parser.error(f"{args.run} is no run directory: it has no {records.RECORDS_FILE}")
    looks = [r for r in written if r.get(records.CORRIDOR_INDEX) is not None]
    if not looks:
        parser.error(f"{args.run} has no looks at the geometry: train with probe=corridor")

    from corridor_exp.figures import atlas  # matplotlib, only now

    summary = atlas.phases(looks, total_steps=written[-1]["step"] + 1)
    print(atlas.table(summary))
    print("\nmedian (share of looks beyond the threshold, which no convex quadratic with minimum 0 reaches)")
    atlas.write_csv(summary, args.run / "atlas.csv")
    figure = atlas.draw(looks, summary, title=f"{args.run.resolve().parent.name}/{args.run.resolve().name}")
    for kind in ("png", "pdf"):
        figure.savefig(args.run / f"atlas.{kind}", dpi=200)
    print(f"written: {args.run / 'atlas.png'}, atlas.pdf, atlas.csv", file=sys.stderr)


if __name__ == "__main__":
    main()
