"""`corridor-train`: one run, or a Hydra multirun."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from corridor_exp import __version__, targets
from corridor_exp.cli.estimate import report
from corridor_exp.cli.table import table
from corridor_exp.config import CONF_DIR, Config, fingerprint, option_groups, refuse_to_start
from corridor_exp.errors import UsageError
from corridor_exp.records import read_summary
from corridor_exp.secrets import clean
from corridor_exp.signals import StopSignals

if TYPE_CHECKING:
    from omegaconf import DictConfig

PREEMPTED = 75
EXIT_CODES = {"completed": 0, "preempted": PREEMPTED}

HELP = """corridor-train: train a network under the corridor learning rate, or any other, and record the geometry.

  corridor-train [GROUP=OPTION]... [key=value]...

Examples
  corridor-train dataset=digits model=mlp                        no download, under a minute on a laptop
  corridor-train dataset=breast_cancer model=logistic l2=0.1     a convex problem, no download
  corridor-train model=resnet18 optim=clr                        CIFAR-10; downloaded to ./data if it is not there
  corridor-train model=resnet18 optim=clr dataset.root=DIR       CIFAR-10 from DIR (release, or train/<class>/*.jpg)
  corridor-train optim=sgd optim.lr=0.5 optim/schedule=cosine optim.schedule.warmup=200
  corridor-train -m optim=sgd optim.lr=0.01,0.1,1 seed=0,1,2     nine runs, into out_dir/0 … out_dir/8
  corridor-train dataset=imagenet dataset.root=DIR model=resnet50 optim.step_cap=10 engine.micro_batch=256

Groups (an option is a file of conf/, whose comments explain its keys)
{groups}

Keys for every run
  seed batch_size epochs max_steps target_loss l2 log_every eval_every name out_dir probe.every
  batch_size=full           the whole training set: gradient descent
  engine.device=auto|cpu|cuda   engine.precision=auto|fp32|bf16|fp16   engine.compile=true   engine.micro_batch=N
  probe=none                no Hg;  probe.every=N: a look every N steps
  checkpoint.every=N|10min  steps or minutes between two saves;  checkpoint.best=test/accuracy: also the best epoch
  allow_targets=[PREFIX]    trust modules or objects of your own as a `_target_`: counts on a command line alone
  fork_from=RUN[@STEP]      begin with another run's checkpoint (also RUN@best), with other keys than it had
  resume.override=true      go on in a run directory although the configuration has changed

Flags
  -m, --multirun            run every combination of comma-separated values
  --estimate                train for a few seconds, and say what the whole would take: time, images/s, memory
  --cfg job                 print the configuration and stop
  --config-dir DIR          a folder with options of your own, laid out as conf/ is
  --shell-completion install=bash|zsh|fish   prints what to evaluate for tab completion
  --version, --help

A run lies in outputs/<name>/<run id>/, or exactly in out_dir: config.yaml, records.jsonl, summary.json, checkpoints/.
The same command resumes an unfinished run. Exit codes: 0 done, 1 failed or diverged, 2 bad usage, 75 stopped by a
signal after saving.
"""


def main(argv: list[str] | None = None) -> None:
    """The command. Exits with the codes of the contract."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        sys.exit(_main(argv))
    except UsageError as error:
        print(f"corridor-train: {clean(str(error))}", file=sys.stderr)
        sys.exit(2)


def _main(argv: list[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(HELP.format(groups=_groups()), end="")
        return 0
    if "--version" in argv:
        print(f"corridor-exp {__version__}")
        return 0
    from corridor_exp.cli.compose import compose_jobs, hide_secrets, parse_arguments, quoted

    argv = targets.take(argv)
    args = parse_arguments(argv)
    overrides = hide_secrets(args.overrides)
    flags = [arg for arg in argv if arg not in args.overrides and (arg != "--resolve" or overrides == args.overrides)]
    if args.shell_completion or args.info or args.hydra_help:
        _hydra([*flags, *overrides])
        return 0
    jobs = compose_jobs(args.overrides, args.multirun, args.config_dir)
    if args.cfg == "job" and not args.package:
        for job in jobs:
            print(yaml.safe_dump(job.public(), sort_keys=False, allow_unicode=True), end="")
        return 0
    if args.estimate:
        print(report(jobs))
        return 0
    directories = run_directories(jobs, args.multirun)
    for job, directory in zip(jobs, directories, strict=True):
        refuse_to_start(job, directory)
    key, place = ("sweep", directories[0].parent) if args.multirun else ("run", directories[0])
    _hydra([*flags, *overrides, f"hydra.{key}.dir={quoted(str(place))}"])
    if args.multirun:
        print(table(directories))
    return max(exit_code(directory) for directory in directories)


def run_directories(jobs: list[Config], multirun: bool) -> list[Path]:
    """Where each job lies: in out_dir, or in outputs/<name>/<run id>; under a multirun in numbered folders below."""
    places = {job.out_dir for job in jobs}
    if len(places) > 1:
        raise UsageError("out_dir is the folder of the whole sweep, and cannot be swept itself")
    out_dir = places.pop()
    if out_dir is not None:
        place = Path(out_dir).expanduser().absolute()
    else:
        names = {job.name for job in jobs}
        sweep = f"sweep-{fingerprint([job.identity() for job in jobs])}"
        place = Path("outputs").absolute() / (names.pop() if len(names) == 1 else "sweep")
        place /= sweep if multirun else jobs[0].run_id()
    return [place / str(number) for number in range(len(jobs))] if multirun else [place]


def exit_code(directory: Path) -> int:
    summary = read_summary(directory)
    return EXIT_CODES.get(summary["status"], 1) if summary else 1


def _hydra(argv: list[str]) -> None:
    import hydra

    sys.argv[1:] = argv
    hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")(_job)()


def _job(composed: DictConfig) -> None:
    """One job, called by Hydra. A failed run is told in its summary, so that a sweep goes on with the others."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from corridor_exp.cli.compose import to_config

    try:
        with StopSignals() as stop:
            from corridor_exp.distributed import launched  # torch, only now
            from corridor_exp.run import run

            if launched().size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
                raise UsageError("several ranks are one run: leave out -m, and sweep by corridor-sweep")
            status = run(to_config(composed), Path(HydraConfig.get().runtime.output_dir), lambda: stop.asked)
    except UsageError as error:
        print(f"corridor-train: {clean(str(error))}", file=sys.stderr)
        sys.exit(2)
    if status == "preempted" or not launched().is_first:
        sys.exit(EXIT_CODES.get(status, 1))  # the first rank's code is told by the summary, which it alone has written


def _groups() -> str:
    """The option groups, from the files of conf/."""
    lines = []
    for group, options in option_groups([CONF_DIR]).items():
        label = f"  {group:<16}"
        lines += textwrap.wrap(" ".join(options), 110, initial_indent=label, subsequent_indent=" " * len(label))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
