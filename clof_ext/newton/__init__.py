"""Newtonian many-body systems: simulated trajectories and the task of predicting them."""

from .dataset import Batch, Samples, edge_attributes, fully_connected, make_batch, make_samples
from .energy import energy
from .evaluate import Errors, equivariance_error, load_network, prediction_errors, rollout
from .networks import make_network
from .prediction import Prediction, predict, predict_samples, system_errors
from .recipe import Recipe, best, published
from .settings import Setting, setting
from .simulate import simulate
from .systems import LAWS, Systems, initial_systems
from .train import train
from .trajectories import Parameters, Trajectories, load_trajectories, make_data_set, simulate_trajectories

__all__ = [
    "LAWS",
    "Batch",
    "Errors",
    "Parameters",
    "Prediction",
    "Recipe",
    "Samples",
    "Setting",
    "Systems",
    "Trajectories",
    "best",
    "edge_attributes",
    "energy",
    "equivariance_error",
    "fully_connected",
    "initial_systems",
    "load_network",
    "load_trajectories",
    "make_batch",
    "make_data_set",
    "make_network",
    "make_samples",
    "predict",
    "predict_samples",
    "prediction_errors",
    "published",
    "rollout",
    "setting",
    "simulate",
    "simulate_trajectories",
    "system_errors",
    "train",
]
