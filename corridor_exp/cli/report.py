"""`corridor-report`: one HTML page over a folder of runs."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from corridor_exp.cli.arguments import Parser
from corridor_exp.errors import RunError, UsageError
from corridor_exp.runs.layout import find
from corridor_exp.streams import steady_streams

log = logging.getLogger(__name__)


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """Write the page, and print where it is."""
    parser = Parser(
        prog="corridor-report",
        description="Writes one HTML page over all runs below a folder: a table of them with filters and groups, "
        "curves of any metric, any column against any other, the differences of any two configurations, and the "
        "figures and claims of corridor-figures that lie in DIR or DIR/figures. It needs no network, so it can be "
        "mailed. It also shows runs that are broken or not finished.",
        epilog="Examples: corridor-report; corridor-report outputs/digits-mlp; corridor-report outputs --out "
        "runs.html. Exit codes: 0 done, 2 bad usage, 75 stopped.",
    )
    parser.add_argument("directory", nargs="?", default="outputs", type=Path, metavar="DIR", help="default: outputs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: DIR/report.html")
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> None:
    out: Path = args.out or args.directory / "report.html"
    if not args.directory.is_dir():
        raise UsageError(f"{args.directory} is no folder: give one that holds runs, as corridor-report DIR")

    from corridor_exp.report import page  # jinja2, only now

    if not find(args.directory):
        raise UsageError(f"{args.directory} holds no run: train one with corridor-train, or give another DIR")
    try:
        runs = page.write(args.directory, out, [args.directory, args.directory / "figures"])
    except RunError as error:
        raise UsageError(f"{error}; choose another place with --out FILE") from None
    for run in runs:
        if run.complaint:
            log.warning("%s", run.complaint)
    print(f"{len(runs)} run{'s' * (len(runs) != 1)}: {out}")


if __name__ == "__main__":
    main()
