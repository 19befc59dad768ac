"""Many runs: first frozen into folders, then run on this machine or by Slurm."""
