"""`corridor-sync`: upload to W&B what it does not have yet of one or more runs."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from corridor_exp.cli.arguments import Parser
from corridor_exp.errors import ExitCode, RunError, UsageError
from corridor_exp.loggers import wandb
from corridor_exp.runs import layout, reading
from corridor_exp.runs.layout import RECORDS_FILE, Status
from corridor_exp.streams import steady_streams

log = logging.getLogger(__name__)


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """Upload runs from their `records.jsonl`. Exits with 1 if W&B or a run could not be read, 2 for bad usage."""
    parser = Parser(
        prog="corridor-sync",
        description="Uploads runs to W&B from their records.jsonl, each under the id in its folder: runs that were "
        "offline, that lost their network, or that W&B does not know. It sends only what W&B does not have, so "
        "you can repeat the command. It needs a key: WANDB_API_KEY, or `wandb login`.",
        epilog="Examples: corridor-sync outputs/cifar10-resnet18/clr-seed0-1a2b3c4d; corridor-sync outputs "
        "--project corridor. Exit codes: 0 done, 1 W&B or a run could not be read, 2 bad usage, 75 stopped.",
    )
    parser.add_argument("directory", type=Path, nargs="+", metavar="DIR", help="a run directory, or a folder of them")
    parser.add_argument("--project", metavar="NAME", help="instead of the project that the run's config.yaml names")
    parser.add_argument("--entity", metavar="NAME", help="instead of the entity that the run's config.yaml names")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)  # used by logger.wandb.mode=online
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> int:
    folders = args.directory if args.follow else [run for place in args.directory for run in layout.find(place)]
    if not folders:
        raise UsageError(f"no run lies in {', '.join(map(str, args.directory))}: none has a {RECORDS_FILE}")
    wandb.refuse_login_in_address()
    if not wandb.has_key():
        raise UsageError("no W&B key found: set WANDB_API_KEY, or run `wandb login`")
    how_it_ended = _as_standard_input_says() if args.follow else lambda: ""
    complaints = []
    for folder in tqdm(folders, unit="run", disable=len(folders) == 1):
        run = reading.read(folder)
        if run.faults:
            complaints.append(run.complaint)
        elif run.records or args.follow:
            try:
                sent = wandb.upload(run, args.project, args.entity, how_it_ended)
            except RunError as error:  # W&B or the network fails: the next run would fail too
                complaints.append(str(error))
                break
            tqdm.write(f"{folder}: {sent} records uploaded")
    for complaint in complaints:
        log.error("%s", complaint)
    return ExitCode.FAILED if complaints else ExitCode.DONE


def _as_standard_input_says() -> Callable[[], str | None]:
    """The status of the run, once the training process has written it as a line, or has died.

    Not the end of the pipe: workers of the training process may hold it open.
    """
    said: list[str] = []
    threading.Thread(target=lambda: said.append(sys.stdin.readline().strip() or Status.FAILED), daemon=True).start()
    return lambda: said[0] if said else None


if __name__ == "__main__":
    main()
