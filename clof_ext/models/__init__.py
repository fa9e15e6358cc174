"""Networks, with the names that the published weights have, and the baselines of the Newtonian task."""

from .baselines import GNN, LinearMotion, RadialField
from .clofnet import ClofNet
from .egnn import EGNN

__all__ = ["EGNN", "GNN", "ClofNet", "LinearMotion", "RadialField"]
