"""Run directories: what lies in one, and where they lie. Knows no torch."""
