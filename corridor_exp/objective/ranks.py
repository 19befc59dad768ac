"""Several processes as one run: each has its part of every batch, and all have the same θ.

The processes are started by torchrun, or by srun as the tasks of a Slurm step. Each process adds its share to
every sum, so a single process needs no special case.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from corridor_exp.errors import UsageError
from corridor_exp.launcher import rank_size_and_local
from corridor_exp.theory.vectors import is_sharded

TIMEOUT = timedelta(minutes=10)  # after which a rank that hears nothing of another gives up
BUCKET = 25 << 20  # bytes that are added up at a time


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them. All must call the same methods in the same order."""

    rank: int = 0
    size: int = 1
    local: int = 0  # the rank on this machine, which is the number of its device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Which of `count` images are this rank's: the parts are in order, and differ by at most one image."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def added_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each tensor over all ranks; the tensors themselves where there is one."""
        if self.size == 1:
            return list(tensors)
        total = []
        for bucket in _buckets(tensors):
            flat = torch.cat([t.flatten() for t in bucket])
            dist.all_reduce(flat)
            total += [
                part.view(t.shape) for t, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True)
            ]
        return total

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is set on any rank. Goes by the host: no device is waited for."""
        if self.size == 1:
            return list(flags)
        counts = torch.tensor(flags, dtype=torch.int32)  # on the host, where gloo adds them up
        dist.all_reduce(counts)
        return [count > 0 for count in counts.tolist()]

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the first rank's, in place."""
        if self.size > 1:
            for t in tensors:
                dist.broadcast(t, 0)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every rank."""
        if self.size == 1:
            return [tensor]
        all_of_them = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(all_of_them, tensor)
        return all_of_them

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.any(False)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What all ranks leave alike: where one raises, the others raise `UsageError`."""
        error = None
        try:
            yield
        except Exception as raised:
            error = raised
        failed = self.any(error is not None)[0]
        if error:
            raise error
        if failed:
            raise UsageError("another rank does not start; see what it says")


ALONE = Ranks()


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type, together up to `BUCKET` bytes: few large messages are faster than many small ones."""
    bucket: list[Tensor] = []
    size = 0
    for t in tensors:
        if bucket and (size > BUCKET or t.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(t)
        size += t.numel() * t.element_size()
    if bucket:
        yield bucket


def shard(model: nn.Module) -> None:
    """Cut each parameter over the ranks, by FSDP2: a layer is whole only while it is at work."""
    from torch.distributed.fsdp import fully_shard  # takes half a second

    for module in model.modules():
        if not list(module.children()) and list(module.parameters()):
            fully_shard(module)
    fully_shard(model)


def whole(state: Any) -> Any:
    """The same tree, every sharded tensor put together. All ranks call it alike."""
    if is_sharded(state):
        return state.full_tensor()
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return type(state)(map(whole, state)) if isinstance(state, list | tuple) else state


def cut_like(tensor: Any, p: Tensor | None) -> Any:
    """A parameter, or a tensor that an optimizer keeps of it, sharded as the parameter p is."""
    if is_sharded(p) and isinstance(tensor, Tensor) and tensor.shape == p.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(p.device), p.device_mesh, p.placements)
    return tensor


def launched() -> Ranks:
    """The ranks that torchrun or srun has started; one if neither has."""
    return Ranks(*rank_size_and_local())


@contextmanager
def connected(ranks: Ranks) -> Iterator[None]:
    """While this is open the ranks can hear each other: over NCCL on CUDA devices, over gloo on the host."""
    if ranks.size == 1:
        yield
        return
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = _slurm_address()
    if cuda := torch.cuda.is_available():
        torch.cuda.set_device(ranks.local)  # where NCCL and FSDP put what is not said to lie elsewhere
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", rank=ranks.rank, world_size=ranks.size, timeout=TIMEOUT
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _slurm_address() -> tuple[str, str]:
    """The first host of the Slurm step, and a port that its number decides."""
    nodes = os.environ["SLURM_STEP_NODELIST"]
    listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    step = int(os.environ["SLURM_JOB_ID"]) * 31 + int(os.environ.get("SLURM_STEP_ID", 0))
    return listed.stdout.split()[0], str(20000 + step % 20000)
