"""A vector of parameter space is a list of tensors, one a parameter; this is its inner product."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor
    from typing_extensions import TypeIs

SHORT = 1 << 14  # elements: up to here one product more costs as much as a copy
BLOCK = 1 << 16  # elements: the float32 dot product of a CPU loses digits in a longer one, 1e-4 of the sum at 1e5


def inner(u: Sequence[Tensor], v: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """⟨u, v⟩ over all tensors, a 0-dim tensor on their device, in `dtype` or in at least float32.

    No host sync. Half-precision tensors are widened first: their own dot product would round to 8 or 11 bits. Long
    tensors on a CPU are multiplied block by block, which keeps a float32 sum right to 1e-4 at any length.
    Complex tensors count as pairs of reals. An empty vector has ⟨·, ·⟩ = 0. Of sharded tensors (`DTensor`, each
    element on one rank) the shards' products are added up over the ranks.
    """
    if not u:
        return torch.zeros(())
    if is_sharded(u[0]):
        return _over_shards(u[0], inner(shards(u), shards(v), dtype))
    return torch.stack([_dot(a, b, dtype or _wide(a.dtype)) for a, b in zip(u, v, strict=True)]).sum()


def squared_norm(u: Sequence[Tensor]) -> Tensor:
    """‖u‖² over all tensors, like `inner(u, u)`."""
    if u and is_sharded(u[0]):
        return _over_shards(u[0], squared_norm(shards(u)))
    if u and u[0].is_cuda:  # one kernel for all tensors; on a CPU it is slower than one kernel a tensor
        norms = torch._foreach_norm([_real(t) for t in u], dtype=_wide(u[0].dtype))
        return torch.stack(norms).square().sum()
    if len(short := [t for t in u if t.numel() <= SHORT]) > 1:
        short = [flat(short)]
    sums = [_sum_of_squares(t) for t in u if t.numel() > SHORT]
    return torch.stack([*sums, *(_dot(t, t, _wide(t.dtype)) for t in short)]).sum() if sums else inner(short, short)


def is_sharded(t: object) -> TypeIs[DTensor]:
    """Whether a tensor has its elements on several ranks."""
    module = sys.modules.get("torch.distributed.tensor")  # its import takes a second; where a `DTensor` is, it is done
    return module is not None and isinstance(t, module.DTensor)


def shards(u: Sequence[Tensor]) -> list[Tensor]:
    """This rank's parts of sharded tensors, whose memory they share; of others the tensors themselves."""
    return [t.to_local() if is_sharded(t) else t for t in u]


def _over_shards(like: DTensor, part: Tensor) -> Tensor:
    dist.all_reduce(part, group=like.device_mesh.get_group())
    return part


def flat(u: Sequence[Tensor]) -> Tensor:
    """All elements as one tensor of shape (n,)."""
    return torch.cat([t.reshape(-1) for t in u])


def like(theta: Tensor, u: Sequence[Tensor]) -> list[Tensor]:
    """The opposite of `flat`: the elements of θ in the shapes of u."""
    return [part.view_as(t) for part, t in zip(theta.split([t.numel() for t in u]), u, strict=True)]


def norm(u: Sequence[Tensor]) -> Tensor:
    """‖u‖ in float64, where no square of a float32 number over- or underflows."""
    return inner(u, u, torch.float64).sqrt()


def _dot(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    if not (a.is_contiguous() and b.is_contiguous()) or a.is_complex():
        a, b = _in_memory_order(_real(a), _real(b))
    a, b = a.reshape(-1), b.reshape(-1)
    blocks = [(a, b)] if a.numel() <= BLOCK or not a.is_cpu else zip(a.split(BLOCK), b.split(BLOCK), strict=True)
    products = [
        torch.dot(x, y) if x.dtype == y.dtype == dtype else torch.dot(x.to(dtype), y.to(dtype)) for x, y in blocks
    ]
    return products[0] if len(products) == 1 else torch.stack(products).sum()


def _sum_of_squares(t: Tensor) -> Tensor:
    """Of a long tensor on a CPU, by the norms of rows: unlike dot products they take all threads."""
    t = _real(t)
    (t,) = _in_memory_order(t)
    t = t.reshape(-1)
    dtype, in_rows = _wide(t.dtype), t.numel() // SHORT * SHORT
    norms = torch.linalg.vector_norm(t[:in_rows].view(-1, SHORT), dim=1, dtype=dtype)
    return norms.square().sum() + _dot(t[in_rows:], t[in_rows:], dtype)


def _in_memory_order(a: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """In that of a, which is that of the others too in most cases, so that channels_last weights need no copy."""
    order = sorted(range(a.dim()), key=a.stride, reverse=True)
    return tuple(t.permute(order) for t in (a, *others))


def _real(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


def _wide(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        dtype = dtype.to_real()
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
