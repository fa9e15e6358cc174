"""The edges of a graph that a mask of zeros and weights leaves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import EdgePlan, as_plan
from .tensor_cache import TensorCache

_chosen = TensorCache()


@dataclass(frozen=True)
class EdgeSet:
    """Edges, of which those with a weight of zero may be left out.

    Attributes:
        plan: the edges that are computed.
        all_edges: (2, E) all of them.
        kept: numbers of those that are computed; None for all.
        weight: of each edge that is computed; None for ones.
    """

    plan: EdgePlan
    all_edges: Tensor
    kept: Tensor | None = None
    weight: Tensor | None = None

    def select(self, values: Tensor) -> Tensor:
        """The rows of (E, ...) values that belong to the edges of the plan."""
        return values if self.kept is None else values[self.kept]

    def weight_in(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.weight is None else self.weight.to(dtype)

    def counts(self) -> Tensor:
        """(N,) edges into each node whatever their weights, at least 1."""
        return as_plan(self.all_edges, self.plan.num_nodes, self.plan.device).degree().clamp(min=1)


def masked_edges(edge_index: Tensor, mask: Tensor | None, num_nodes: int) -> EdgeSet:
    """Edges with (E, 1) weights, or none; edges of weight 0 are left out where they can be found once for many uses.

    Finding them asks the values of the mask, which a traced program, the capture of a CUDA graph and the gradient of
    the mask itself cannot.
    """
    if mask is None:
        return EdgeSet(as_plan(edge_index, num_nodes, edge_index.device), edge_index)
    if torch.compiler.is_compiling() or mask.requires_grad or mask.is_inference() or _is_captured(mask):
        return EdgeSet(as_plan(edge_index, num_nodes, edge_index.device), edge_index, weight=mask.reshape(-1))
    kept, weight, plan = _chosen.get((edge_index, mask), lambda: _choose(edge_index, mask, num_nodes), num_nodes)
    return EdgeSet(plan or as_plan(edge_index, num_nodes, edge_index.device), edge_index, kept, weight)


def _choose(edge_index: Tensor, mask: Tensor, num_nodes: int) -> tuple[Tensor | None, Tensor | None, EdgePlan | None]:
    """Numbers and weights of the edges of other weight than 0, and their plan; None for all, ones, and that of all."""
    weight = mask.reshape(-1)
    kept = weight.nonzero()[:, 0]
    weight = weight[kept]
    weight = None if bool((weight == 1).all()) else weight
    if len(kept) == len(mask):
        return None, weight, None
    return kept, weight, as_plan(edge_index[:, kept], num_nodes, edge_index.device)


def _is_captured(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
