"""From a configuration to a finished run directory: building, the training loop, how a run begins and ends."""
