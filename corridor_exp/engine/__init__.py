"""Building a run, the training loop, and how a run begins and ends."""
