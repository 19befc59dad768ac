"""What was given to this process: its rank in a run, by torchrun or srun, and its cores."""

from __future__ import annotations

import os


def rank_size_and_local() -> tuple[int, int, int]:
    """The rank, the number of ranks, and the rank on this machine; (0, 1, 0) for a single process."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= env.keys():
        return int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", 0))
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # srun sets it for a step; a batch script does not have it
        return int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_LOCALID"])
    return 0, 1, 0


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
