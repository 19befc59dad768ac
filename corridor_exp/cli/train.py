"""`corridor-train`: one run, or with -m a sweep of one grid."""

from __future__ import annotations

import argparse
import logging
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from corridor_exp.cli.arguments import Parser
from corridor_exp.config.logs import log_to_stderr
from corridor_exp.config.options import SBATCH, our_groups
from corridor_exp.config.schema import Config
from corridor_exp.config.settings import NO_HYDRA, is_of_a_sweep
from corridor_exp.errors import ExitCode, UsageError
from corridor_exp.launcher import rank_size_and_local
from corridor_exp.runs.places import ended_before, refuse_place, refuse_to_start, refuse_to_write, run_directory
from corridor_exp.signals import StopSignals
from corridor_exp.streams import steady_streams
from corridor_exp.yaml_files import to_yaml

log = logging.getLogger(__name__)
# Flags of Hydra that have no meaning, because Hydra only composes; then those that --config-dir replaces.
NO_FLAGS = ("--info", "-i", "--hydra-help", "--package", "-p", "--resolve", "--run", "-r", "--experimental-rerun")
NO_CONFIG = ("--config-name", "-cn", "--config-path", "-cp")

HELP = """corridor-train: train a network under the corridor learning rate, or any other, and record the geometry.

  corridor-train [GROUP=OPTION]... [key=value]...

Examples
  corridor-train dataset=digits model=mlp                        no download, under a minute on a laptop
  corridor-train dataset=breast_cancer model=logistic l2=0.1     a convex problem, no download
  corridor-train model=resnet18_haiku optim=clr                  CIFAR-10; downloaded to ./data if it is not there
  corridor-train model=resnet18 optim=clr                        the same with 3×3 stem: 16 times the arithmetic
  corridor-train model=resnet18 optim=clr dataset.root=DIR       CIFAR-10 from DIR (release, or train/<class>/*.jpg)
  corridor-train optim=sgd optim.lr=0.5 optim/schedule=cosine optim.schedule.warmup=200
  corridor-train -m optim=sgd optim.lr=0.01,0.1,1 seed=0,1,2     nine runs, into out_dir/0 … out_dir/8: a sweep
  corridor-train dataset=imagenet dataset.root=DIR model=resnet50 optim.step_cap=10 engine.micro_batch=256

Groups (an option is a file of conf/, whose comments explain its keys)
{groups}

Keys for every run
  seed batch_size epochs max_steps target_loss loss l2 log_every eval_every name out_dir probe.every probe.until
  batch_size=full           the whole training set: gradient descent
  engine.device=auto|cpu|cuda   engine.precision=auto|fp32|bf16|fp16   engine.compile=true   engine.micro_batch=N
  probe=none                no Hg;  probe.every=N: a look every N steps
  loss=auto|mse|cross_entropy   what to minimise; or the dotted name of a function, with allow_targets
  checkpoint.every=N|10min  steps or minutes between two saves;  checkpoint.best=test/accuracy: also the best epoch
  checkpoint.keep=N         how many checkpoints stay
  allow_targets=[PREFIX]    trust a `_target_` of your own; only a command line can say this
  fork_from=RUN[@STEP]      begin with a checkpoint of another run (also RUN@best); other keys may differ
  resume.override=true      continue a run whose configuration has changed

Flags
  -m, --multirun            run every combination of comma-separated values, as corridor-sweep does: all runs are
                            frozen first; processes=N runs N at a time, executor=slurm submits them
  --estimate                train a few steps, look once, and print what the run would take: time, images/s, memory
  --cfg job                 print the configuration and stop
  --config-dir DIR          a folder with options of your own, with the layout of conf/
  --shell-completion install=bash|zsh|fish   print shell code for tab completion, also of corridor-sweep
  --sbatch                  print the path of the script that runs one command as a Slurm job:
                            sbatch "$(corridor-train --sbatch)" model=resnet18 optim=clr
  --version, --help

A run lies in outputs/<name>/<run id>/, or exactly in out_dir: config.yaml, records.jsonl, summary.json, checkpoints/.
The same command resumes an unfinished run. Exit codes: 0 done, 1 failed or diverged, 2 bad usage, 75 stopped by a
signal after saving.
"""


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """The command. Exits with the codes of the contract."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--help" in argv or "-h" in argv:
        print(HELP.format(groups=_groups()), end="")
        sys.exit(ExitCode.DONE)
    parser = Parser(prog="corridor-train", add_help=False)
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", metavar="DIR")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cfg", "-c", metavar="job")
    what.add_argument("--estimate", action="store_true")
    what.add_argument("--shell-completion", "-sc", action="store_true")
    what.add_argument("--sbatch", action="store_true")
    parser.add_argument("overrides", nargs="*")
    for flag in [word.partition("=")[0] for word in argv]:
        if flag in NO_FLAGS:
            parser.error(f"{flag} {NO_HYDRA}")
        if flag in NO_CONFIG:
            parser.error(f"{flag} is not supported; add options of your own with --config-dir")
    parser.set_defaults(flags=[*parser.flags, "--help"])
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> int:
    if args.cfg not in (None, "job"):
        raise UsageError(f"--cfg {args.cfg} {NO_HYDRA}; --cfg job prints the configuration")
    if args.sbatch:
        print(SBATCH)
    elif args.shell_completion:
        from corridor_exp.config.completion import Completion

        Completion(args.flags).carry_out(args.overrides)
    elif args.multirun:
        return _sweep(args)
    else:
        return _run(args)
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from corridor_exp.cli.sweep import carry_out, estimate
    from corridor_exp.sweeps.request import Request

    log_to_stderr("corridor-sweep")
    request = Request(args.overrides, args.config_dir)
    if args.estimate:
        estimate(request)
    elif args.cfg:
        _print(request.configs)
    else:
        return carry_out(request)
    return 0


def _run(args: argparse.Namespace) -> int:
    from corridor_exp.config.compose import compose_jobs

    for override in args.overrides:
        if is_of_a_sweep(override):
            raise UsageError(
                f"{override} is a key of a sweep: add -m; for one run as a Slurm job see --sbatch (--help)"
            )
    (config,) = compose_jobs(args.overrides, multirun=False, config_dir=args.config_dir)
    if args.cfg:
        _print([config])
    elif args.estimate:
        from corridor_exp.cli.estimate import report

        print(report([config]))
    else:
        directory = run_directory(config)
        refuse_place(directory)
        refuse_to_start(config, directory)
        is_first = rank_size_and_local()[0] == 0
        if ended := ended_before(config, directory, tell=is_first):  # also in a folder that cannot be written
            return ended.exit_code
        refuse_to_write(directory)
        return _start(config, directory)
    return 0


def _start(config: Config, directory: Path) -> int:
    """Begin or go on with one run, or with this process's part of it, and return its exit code."""
    if rank_size_and_local()[0] == 0:
        log.info("loading torch for %s", directory)
    with StopSignals() as stop:
        from corridor_exp.engine.run import run  # torch, only now

        return run(config, directory, lambda: stop.asked).exit_code


def _print(configs: Sequence[Config]) -> None:
    for config in configs:
        print(to_yaml(config.public()), end="")


def _groups() -> str:
    """The option groups, from the files of conf/."""
    lines = []
    for group, options in our_groups().items():
        label = f"  {group:<16}"
        lines += textwrap.wrap(" ".join(options), 110, initial_indent=label, subsequent_indent=" " * len(label))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
