"""Run directories: their files, and where they lie. Only `checkpoint` imports torch."""
