"""`corridor-tune`: the best value of one or two keys, chosen on held-out training data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corridor_exp.cli.arguments import Parser
from corridor_exp.cli.sweep import start
from corridor_exp.errors import ExitCode, RunError
from corridor_exp.files import write_json
from corridor_exp.runs import records
from corridor_exp.runs.layout import ENDED, LOG_FILE
from corridor_exp.runs.places import refuse_to_write
from corridor_exp.runs.text import aligned, shown
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps.choosing import Setting, result, settings_of
from corridor_exp.sweeps.frozen import only_one
from corridor_exp.sweeps.status import state_of

if TYPE_CHECKING:
    from corridor_exp.sweeps.tuning import Search

log = logging.getLogger(__name__)
RESULT = "tune.json"

HELP = """\
Searches the best value of one or two keys. The choice is made on training images that are held out: the test set is
not looked at. All other keys are those of corridor-train.

  corridor-tune [KEY=VALUE]... KEY=VALUE,VALUE,...         a list: every value is tried; of two lists every pair
  corridor-tune [KEY=VALUE]... KEY=LOW..HIGH[:linear]      an interval, logarithmic unless it says :linear

Examples
  corridor-tune dataset=digits model=mlp optim=sgd optim.lr=0.01,0.1,1
  corridor-tune dataset=digits model=mlp optim=sgd optim.lr=0.001..10 trials=12 processes=2
  corridor-tune dataset=digits model=mlp optim=sgd optim.lr=0.01..1 optim.momentum=0..0.95:linear trials=20 seed=0,1,2
  corridor-tune dataset=digits model=mlp optim=sgd optim.lr=0.1,0.2,0.5 target_loss=0.01 metric=train/evaluations
                                          the rate that takes the fewest gradients to a mean training loss of 0.01

Keys of the search
  metric=test/accuracy                    what to choose by, at the end of a run; also test/loss, train/epoch_loss, and
                                          train/evaluations, the cost in gradients until target_loss is reached.
                                          Of equals the one with the lower loss is better: test/loss, or
                                          train/epoch_loss for a metric train/…
  trials=10                               settings to try in an interval: first a grid, then those that Optuna proposes
  seed=0,1,2                              several seeds a setting; the mean over the seeds counts
  dataset.held_out=0.1                    a number of training images, or a share of them. 0.1 if the metric is test/…
  probe=none                              the default here
  out_dir=DIR processes=N executor=local|slurm slurm.KEY=VALUE allow_targets=[PREFIX]      as of corridor-sweep
"""
EPILOG = """\
Intervals need the extra [tune]. The folder is a sweep: corridor-sweep out_dir=DIR --status shows its runs, and
corridor-report DIR draws them. tune.json holds the result. The same command goes on with a search that was stopped.
Exit codes: 0 done or submitted, 1 a run failed, or no setting ended well, 2 bad usage, 75 stopped by a signal after
saving.
"""


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """The command. Exits with the codes of the contract."""
    parser = Parser(
        prog="corridor-tune",
        usage="%(prog)s [KEY=VALUE]... KEY=VALUES [--config-dir DIR]",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options of your own, laid out as conf/ is")
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help=argparse.SUPPRESS)
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> int:
    from corridor_exp.sweeps.tuning import Search  # Hydra, only now

    search = Search(args.arguments, args.config_dir)
    assert search.directory
    refuse_to_write(search.directory)
    with only_one(search.directory):
        return carry_out(search)


def carry_out(search: Search) -> int:
    """Try settings until there are enough, and tell which is best. Returns the exit code."""
    study = search.study()
    while True:
        if study and not study.proposed:
            study.propose(search.settings.processes)
        request = search.request(study.proposed if study else [])
        request.refuse_mistakes()
        sweep = request.frozen()
        how = start(sweep, search.settings)
        if how != "ended":
            log.info("the same command goes on %s", "from here" if how == "stopped" else "once these have ended")
            return ExitCode.STOPPED if how == "stopped" else ExitCode.DONE
        settings = settings_of(sweep.folders, search.keys, search.tuning.metric)
        if study:
            study.tell(settings)
        failed = [folder for folder in sweep.folders if state_of(folder).state not in ENDED]
        if not failed and study and study.propose(search.settings.processes):
            continue
        print(table(settings))
        if failed:
            why = failed[0] / LOG_FILE
            raise RunError(f"{len(failed)} runs failed; {why} says why, and the same command tries again")
        return conclude(sweep.directory, result(settings, search.tuning.metric), search.tuning.metric)


def table(settings: Sequence[Setting]) -> str:
    """One line a setting: how its runs ended, and what they cost."""
    rows = [[*settings[0].values, "runs", "train loss", settings[0].metric, "gradients"]]
    for setting in settings:
        losses = [run.summary.get("metrics", {}).get(records.TRAIN_EPOCH_LOSS) for run in setting.runs]
        states = ", ".join(sorted({run.status for run in setting.runs}))
        numbers = [", ".join(map(shown, losses)), shown(setting.value), f"{setting.evaluations:,.0f}"]
        rows.append([*setting.values.values(), states, *numbers])
    return aligned(rows)


def conclude(directory: Path, found: dict[str, Any] | None, metric: str) -> int:
    """Say which setting is best, and write it to `tune.json`. Returns the exit code."""
    if not found:
        raise RunError(f"no setting has a {metric} to choose by")
    write_json(directory / RESULT, found)
    print(f"\n{in_words(found)}")
    return 0


def in_words(found: dict[str, Any]) -> str:
    setting = " ".join(f"{key}={value}" for key, value in found["best"].items())
    lines = [f"best: {setting} ({found['metric']} {shown(found['value'])})"]
    for key, (lower, higher) in found["between"].items():
        if lower is None or higher is None:
            side = "smallest" if lower is None else "largest"
            lines.append(f"{key} is the {side} that was tried: the best may lie beyond it")
        else:
            lines.append(f"{key}: the next values that were tried are {lower:g} and {higher:g}")
    whole, one = found["evaluations"], found["evaluations_of_best"]
    ratio = f", {whole / one:.3g} times those of the best setting" if one else ""
    lines.append(f"the search cost {whole:,.0f} gradients of a batch in {found['runs']} runs{ratio}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
