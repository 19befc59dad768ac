"""Corridor geometry in gradient-based optimization (Dherin & Rosca, arXiv 2402.08818)."""

__version__ = "0.1.0"
