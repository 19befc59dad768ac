"""`corridor-verify`: every numbered statement of the paper, checked."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from corridor_exp.cli.arguments import Parser
from corridor_exp.streams import steady_streams


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """Print the ledger; exit 1 if a statement fails that is no known misprint."""
    parser = Parser(
        prog="corridor-verify",
        description="Checks every numbered statement of the paper numerically, in float64: what was computed, the "
        "error found, and whether it holds. Rows 'as printed' are slips of the print; they are meant to fail.",
        epilog="Example: corridor-verify --json | python -m json.tool. Exit codes: 0 all hold, 1 one does not.",
    )
    parser.add_argument("--json", action="store_true", help="a list of {statement, claim, error, holds, misprint}")
    args = parser.parse_args(argv)

    from corridor_exp.ledger import ledger  # torch, only now

    rows = ledger()
    if args.json:
        print(json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2))
    else:
        for row in rows:
            verdict = "holds" if row.holds else "misprint" if row.misprint else "FAILS"
            print(f"{row.statement:<17} {verdict:<9} {row.error:9.1e}  {row.claim}")
        failed = sum(not row.holds and not row.misprint for row in rows)
        slips = sum(row.misprint for row in rows)
        print(f"\n{len(rows) - slips - failed} statements hold, {failed} fail; {slips} slips of the print, as expected")
    sys.exit(1 if any(not row.holds and not row.misprint for row in rows) else 0)


if __name__ == "__main__":
    main()
