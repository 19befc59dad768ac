"""One rank of two under torchrun: five steps of CLR on its half of a batch; its weights go into the folder named."""

from __future__ import annotations

import sys

import torch
from torch import distributed, nn

from corridor_exp.optim import CLR
from tests.conftest import small_batch, small_network


def train(rank: int) -> nn.Module:
    model = nn.parallel.DistributedDataParallel(small_network())
    optimizer = CLR(model.parameters())
    x, y = small_batch()
    for _ in range(5):
        loss = nn.functional.cross_entropy(model(x[rank::2]), y[rank::2])
        optimizer.zero_grad()
        loss.backward()
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        optimizer.step(loss=mean / 2)
    return model.module


distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.save(train(rank).state_dict(), f"{sys.argv[1]}/{rank}.pt")
distributed.barrier()  # neither leaves while the other still speaks to it
distributed.destroy_process_group()
