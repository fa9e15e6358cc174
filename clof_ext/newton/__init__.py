"""Newtonian many-body systems: simulated trajectories and the task of predicting them."""

from .dataset import Batch, Samples, edge_attributes, fully_connected, make_batch, make_samples
from .simulate import simulate
from .systems import LAWS, Systems, initial_systems

__all__ = [
    "LAWS",
    "Batch",
    "Samples",
    "Systems",
    "edge_attributes",
    "fully_connected",
    "initial_systems",
    "make_batch",
    "make_samples",
    "simulate",
]
