"""`corridor-verify`: every numbered statement of the paper, checked."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from tqdm import tqdm

from corridor_exp.cli.arguments import Parser
from corridor_exp.errors import ExitCode
from corridor_exp.files import to_json
from corridor_exp.streams import steady_streams

if TYPE_CHECKING:
    from corridor_exp.ledger import Row

log = logging.getLogger(__name__)


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """The command. Exits with 0 where all is as expected, 1 where a row is not, 75 where it was stopped."""
    parser = Parser(
        prog="corridor-verify",
        description="Checks every numbered statement of the paper numerically, in float64: what was computed, the "
        "error found, and whether it holds. Rows 'as printed' are slips of the print; they are meant to fail.",
        epilog="Example: corridor-verify --json | python -m json.tool. Exit codes: 0 all as expected, 1 a row is not, "
        "75 stopped by a signal.",
    )
    parser.add_argument("--json", action="store_true", help="a list of {statement, claim, error, holds, misprint}")
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> int:
    """Print the ledger. Returns 1 if a statement fails that is not a known misprint, or if a misprint holds."""
    log.info("loads torch, then checks the paper's statements one by one")

    from corridor_exp import ledger  # torch, only now

    rows, watched = [], sys.stderr.isatty()
    with tqdm(total=len(ledger.CHECKS), unit="row", leave=False, mininterval=0.2 if watched else 30.0) as bar:
        say = bar.write if watched else print  # the first clears the bar around the line
        for check in ledger.CHECKS:
            bar.set_description(check.statement, refresh=watched)
            rows.append(check.row())
            if not args.json:
                say(line(rows[-1]))
            bar.update()
    red, slips = sum(row.red for row in rows), sum(row.misprint and not row.red for row in rows)
    if args.json:
        print(to_json([asdict(row) for row in rows], indent=2))
    else:
        print(f"\n{len(rows) - slips - red} statements hold, {red} fail; {slips} slips of the print, as expected")
    return ExitCode.FAILED if red else ExitCode.DONE


def line(row: Row) -> str:
    verdict = "FAILS" if row.red else "misprint" if row.misprint else "holds"
    note = " (a known slip of the print, and it holds)" if row.red and row.misprint else ""
    return f"{row.statement:<21} {verdict:<9} {row.error:9.1e}  {row.claim}{note}"


if __name__ == "__main__":
    main()
