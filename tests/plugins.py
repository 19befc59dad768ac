"""What a user of the package might write: an optimizer of one's own."""

from __future__ import annotations

import torch


class Plain(torch.optim.SGD):
    """torch's, under another name."""
