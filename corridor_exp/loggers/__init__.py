"""Mirrors of the record stream. A mirror that fails is dropped with one warning, and training goes on."""

from corridor_exp.loggers.base import Logger, Mirrors
from corridor_exp.loggers.tensorboard import TensorBoard
from corridor_exp.loggers.wandb import Wandb

__all__ = ["Logger", "Mirrors", "TensorBoard", "Wandb"]
