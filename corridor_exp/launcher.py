"""Which process of a run this is, as torchrun or srun says. Knows no torch."""

from __future__ import annotations

import os


def rank_size_and_local() -> tuple[int, int, int]:
    """The rank, the number of ranks, and the rank on this machine; (0, 1, 0) where nothing has started ranks."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= env.keys():
        return int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", 0))
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # of a step that srun has started, not of a batch script
        return int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_LOCALID"])
    return 0, 1, 0
