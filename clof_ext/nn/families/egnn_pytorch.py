"""The layers of egnn-pytorch: EGNN of dense batches, and EGNN_Sparse of lists of edges.

With d = x_i - x_j, r = |d|^2 and f(r) = [sin(r / 2^k) ..., cos(r / 2^k) ...] for k below ``fourier_features``::

    m_ij = edge_mlp([h_i, h_j, f(r), r, e_ij])  (* edge_gate(m_ij) with soft edges);   in EGNN_Sparse [e_ij, f(r), r]
    x_i  = x_i + sum_j coors_mlp(m_ij) d   (norm_coors: scale d / |d| in the place of d)
    h_i  = h_i + node_mlp([node_norm(h_i), reduce_j m_ij])

j runs over all nodes of a graph with i among them, over nearest neighbours, or over given edges; pairs that a mask
leaves out are not computed. The first Linear of edge_mlp is wide, 2 (2 F + 1 + ...) features, and messages are narrow:
the op splits that Linear by nodes, so that for each pair only sums and activations of its features remain.
"""

import functools
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import _check, ops
from ..edge_pair import turned
from ..masked_edges import EdgeSet, masked_edges
from ..mlp import linear_tensors, perceptron, with_children
from ..tensor_cache import TensorCache
from .fused import FusedForward
from .recognition import UnrecognisedError, check_pattern, check_state, sequence
from .trial import N_NODES, bare_copy, random, trial_edges

DENSE, SPARSE = "EGNN", "EGNN_Sparse"
MARKS = ("edge_mlp", "coors_norm")
SPACE = 3
ACTIVATION = "silu"
# Parts whose modules the fused forward does not call: it reads their weights.
FUSED_PARTS = ("edge_mlp", "edge_gate", "coors_mlp", "coors_norm")
# Names of the aggregation of EGNN_Sparse, and what the op calls them.
REDUCTIONS = {"add": "sum", "sum": "sum", "mean": "mean"}
# What pairs of which one is masked count as far apart in the ranking of neighbours.
MASKED_DISTANCE = 1e5
# Sizes of batches whose pairs are kept.
KEPT_SIZES = 4
TRIAL_GRAPHS = 2

_pair_masks = TensorCache()


@dataclass(frozen=True)
class Pairs:
    """What is computed of a dense batch.

    Attributes:
        edges: the pairs among all of ``numbers``.
        numbers: (b, n, k) second nodes, numbered in their graph; None for all n.
        counts: (b n, 1) how many pairs a node has that are computed, or their number for all.
    """

    edges: EdgeSet
    numbers: Tensor | None
    counts: Tensor | int


@dataclass(frozen=True)
class Layer(FusedForward):
    """What both layers do for pairs and nodes.

    Attributes:
        normed: the layer has norm_coors. Kept because torch.export has types of its own for modules.
    """

    normed: bool

    def _reduced(
        self, h: Tensor, pos: Tensor, edges: EdgeSet, given: Tensor | None, *, gate: nn.Module | None, reduce: str
    ) -> tuple[Tensor, Tensor]:
        """(N, M) messages and (N, 3) vectors, before the scale of norm_coors."""
        layer, coors_mlp = self.layer, self.layer.coors_mlp
        waves = _waves(pos, edges, layer.fourier_features) if layer.fourier_features > 0 else None
        features = [part.to(h.dtype) for part in self._beside(waves, given) if part is not None]
        weight, *rest = linear_tensors(layer.edge_mlp)
        return ops.frame_message(
            *(h, pos, edges.plan, torch.cat(features, 1) if features else None),
            edge_mlp=[self._radial_first(weight, h.shape[1]), *rest],
            att_mlp=() if gate is None else linear_tensors(gate),
            coord_mlp=[rest[-1].new_zeros(1, len(rest[-1]))] if coors_mlp is None else linear_tensors(coors_mlp),
            edge_weight=edges.weight_in(h.dtype),
            basis="radial",
            mode="orthonormal" if self.normed else "raw",
            activation=ACTIVATION,
            message_reduce=reduce,
            vector_reduce=reduce,
        )

    def _radial_first(self, weight: Tensor, n_features: int) -> Tensor:
        """The columns of the first Linear in the order of the op, in which r follows the features of the nodes."""
        sizes = [2 * n_features, *self._edge_columns(weight.shape[1] - 2 * n_features)]
        nodes, before, radial, behind = weight.split(sizes, 1)
        return torch.cat((nodes, radial, before, behind), 1) if sizes[1] else weight

    @abstractmethod
    def _edge_columns(self, total: int) -> tuple[int, int, int]:
        """Of ``total`` columns of a pair, those before r, its own, those behind it."""

    @abstractmethod
    def _beside(self, waves: Tensor | None, given: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """f(r) and the given features of pairs, in the layer's order."""

    def _moved(self, pos: Tensor, vector: Tensor) -> Tensor:
        return pos + (vector * self.layer.coors_norm.scale.to(vector.dtype) if self.normed else vector)

    def _updated(self, h: Tensor, normed: Tensor, message: Tensor) -> Tensor:
        return h + perceptron(self.layer.node_mlp, ACTIVATION, normed, message.to(normed.dtype))

    def uncalled(self) -> Iterator[tuple[str, nn.Module]]:
        for name in FUSED_PARTS:
            part = self.layer._modules.get(name)
            if part is not None:
                yield from ((name, module) for module in with_children(part))


@dataclass(frozen=True)
class FusedDense(Layer):
    """The layer of dense batches; only positions in space, on CPUs, are fused."""

    def fused(self, feats, coors, edges=None, mask=None, adj_mat=None):
        layer = self.layer
        # Without a matrix the ranking of only_sparse_neighbors is of no neighbours.
        no_neighbours = layer.only_sparse_neighbors and adj_mat is None
        if coors.shape[-1] != SPACE or coors.device.type != "cpu" or no_neighbours:
            return type(layer).forward(layer, feats, coors, edges, mask, adj_mat)
        b, n, n_features = feats.shape
        # Geometry is never computed in half precision.
        pos = (coors if coors.dtype in _check.GEOMETRY_DTYPES else coors.float()).reshape(b * n, SPACE)
        h = feats.reshape(b * n, n_features)
        pairs = self._pairs(coors, mask, adj_mat)
        given = None if edges is None else _rows(edges, pairs)
        message, vector = self._reduced(h, pos, pairs.edges, given, gate=layer.edge_gate, reduce="sum")
        if layer.m_pool_method == "mean":
            message = message / pairs.counts
        moved = coors if layer.coors_mlp is None else self._moved(pos, vector).to(coors.dtype).reshape(coors.shape)
        if layer.node_mlp is None:
            return feats, moved
        normed = layer.node_norm(feats).reshape(h.shape)
        return self._updated(h, normed, message).reshape(feats.shape), moved

    def _pairs(self, coors: Tensor, mask: Tensor | None, adj_mat: Tensor | None) -> Pairs:
        layer, (b, n, _) = self.layer, coors.shape
        if layer.num_nearest_neighbors <= 0 and not layer.only_sparse_neighbors:
            numbers, chosen = None, None if mask is None else _all_masked(mask)
            edge_index = _all_pairs(b, n)
        else:
            numbers, near = _nearest(layer, coors, mask, adj_mat)
            # The published layer reads valid_radius beside a mask alone.
            chosen = None if mask is None else (mask[:, :, None] & _of_graph(mask, numbers) & near).reshape(-1, 1)
            edge_index = _pairs_of(numbers, n)
        edges = masked_edges(edge_index, chosen, b * n)
        if chosen is None:
            return Pairs(edges, numbers, n if numbers is None else numbers.shape[-1])
        return Pairs(edges, numbers, chosen.reshape(b * n, -1).sum(1, keepdim=True).clamp(min=1))

    def _edge_columns(self, total: int) -> tuple[int, int, int]:
        waves = 2 * self.layer.fourier_features
        return waves, 1, total - waves - 1

    def _beside(self, waves: Tensor | None, given: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return waves, given

    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        layer = self.layer
        n = max(N_NODES, layer.num_nearest_neighbors)
        dim, edge_dim = _widths(layer)
        for training in (True, False):
            h, pos = (random(generator, TRIAL_GRAPHS, n, size) for size in (dim, SPACE))
            edges = random(generator, TRIAL_GRAPHS, n, n, edge_dim) if edge_dim else None
            near = random(generator, TRIAL_GRAPHS, n, n) > 0
            mask = None if training else torch.arange(n, device="cpu") < torch.tensor([[n], [n - 2]], device="cpu")
            yield bare_copy(layer, generator).train(training), (h, pos, edges, mask, near | near.mT)

    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        if not (isinstance(result, tuple) and len(result) == 2):
            raise UnrecognisedError("it does not return features and positions")
        return {"features": result[0], "positions": result[1]}


@dataclass(frozen=True)
class FusedSparse(Layer):
    """The layer of PyTorch Geometric's edges, from senders (row 0) to receivers; x holds positions, then features."""

    def fused(self, x, edge_index, edge_attr=None, batch=None, angle_data=None, size=None):
        layer = self.layer
        plain = isinstance(edge_index, Tensor) and edge_index.layout == torch.strided and size is None
        if layer.pos_dim != SPACE or not plain or x.device.type != "cpu":
            return type(layer).forward(layer, x, edge_index, edge_attr, batch, angle_data, size)
        coors, h = x[:, :SPACE], x[:, SPACE:]
        pos = coors if coors.dtype in _check.GEOMETRY_DTYPES else coors.float()
        edges = masked_edges(turned(edge_index), None, len(x))
        message, vector = self._reduced(h, pos, edges, edge_attr, gate=None, reduce=REDUCTIONS[layer.aggr])
        if layer.update_coors:
            # The vectors of the op point to the receiver, those of the layer from it.
            coors = self._moved(pos, -vector).to(coors.dtype)
        if layer.update_feats:
            normed = h if layer.node_norm is None else layer.node_norm(h, batch)
            h = self._updated(h, normed, message)
        return torch.cat((coors, h), 1)

    def _edge_columns(self, total: int) -> tuple[int, int, int]:
        return total - 1, 1, 0

    def _beside(self, waves: Tensor | None, given: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return given, waves

    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        layer, edges = self.layer, trial_edges()
        dim, edge_dim = _widths(layer)
        x = random(generator, N_NODES, SPACE + dim)
        given = random(generator, edges.shape[1], edge_dim) if edge_dim else None
        yield bare_copy(layer, generator), (x, edges, given, torch.zeros(N_NODES, dtype=torch.int64, device="cpu"))

    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        if not isinstance(result, Tensor) or result.shape != arguments[0].shape:
            raise UnrecognisedError("it does not return positions and features in one tensor")
        return {"positions": result[:, :SPACE], "features": result[:, SPACE:]}


def fused_forward(layer: nn.Module) -> Layer:
    """The fused forward of a layer, from its class name, attributes and modules.

    Raises:
        UnrecognisedError: anything about the layer is not as published, or it has an option that is not fused.
    """
    sparse = type(layer).__name__ == SPARSE
    optional = ("dropout", "edge_weight", "aggr_module") if sparse else ("edge_gate",)
    check_state(layer, {"edge_mlp", "coors_norm"}, optional=("node_mlp", "coors_mlp", "node_norm", *optional))
    _check_options(layer)
    _check_perceptron(layer, "edge_mlp", [nn.SiLU])
    for name in ("node_mlp", "coors_mlp"):
        if getattr(layer, name) is not None:
            _check_perceptron(layer, name, [])
    if not sparse and layer.edge_gate is not None:
        check_pattern(sequence(layer, "edge_gate"), "edge_gate", [nn.Linear, nn.Sigmoid])
    return (FusedSparse if sparse else FusedDense)(layer, normed=type(layer.coors_norm) is not nn.Identity)


def _check_options(layer: nn.Module) -> None:
    if layer.coor_weights_clamp_value is not None:
        raise UnrecognisedError("coor_weights_clamp_value bounds the weight of each pair, which is not fused")
    if any(isinstance(module, nn.Dropout) for module in layer.modules()):
        raise UnrecognisedError("it has dropout inside, which is not fused")
    if type(layer).__name__ == DENSE:
        return
    if layer.soft_edge:
        raise UnrecognisedError("its soft edges weight messages and not positions, which is not fused")
    if layer.aggr not in REDUCTIONS:
        raise UnrecognisedError(f"its aggr is {layer.aggr!r}, which is not fused")


def _check_perceptron(layer: nn.Module, name: str, end: list[type]) -> None:
    check_pattern(sequence(layer, name), name, [nn.Linear, nn.Identity, nn.SiLU, nn.Linear, *end])


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Features of a node and of an edge, from the shapes of the weights."""
    total = layer.edge_mlp[0].in_features - 2 * layer.fourier_features - 1
    if type(layer).__name__ == SPARSE:
        dim = layer.feats_dim
    elif layer.node_mlp is not None:
        dim = layer.node_mlp[-1].out_features
    else:
        # Nothing tells features of nodes from those of edges.
        dim = total // 2
    if total < 2 * dim:
        raise UnrecognisedError("the shapes of its weights do not belong together")
    return dim, total - 2 * dim


def _waves(pos: Tensor, edges: EdgeSet, count: int) -> Tensor:
    """(E, 2 count) sines and cosines of the squared distances."""
    receiver, sender = edges.plan.edge_index
    squared = (pos[receiver] - pos[sender]).square().sum(1, keepdim=True)
    angle = squared / 2 ** torch.arange(count, device=pos.device, dtype=pos.dtype)
    return torch.cat((angle.sin(), angle.cos()), 1)


def _nearest(layer: nn.Module, coors: Tensor, mask: Tensor | None, adj_mat: Tensor | None) -> tuple[Tensor, Tensor]:
    """(b, n, k) numbers of each node's neighbours, and which of these are within the radius."""
    count, radius, n = layer.num_nearest_neighbors, layer.valid_radius, coors.shape[1]
    distance = (coors.detach()[:, :, None] - coors.detach()[:, None]).square().sum(-1)
    if mask is not None:
        distance = distance.masked_fill(~(mask[:, :, None] & mask[:, None]), MASKED_DISTANCE)
    if adj_mat is not None:
        adjacent = adj_mat.expand(len(coors), -1, -1)
        if layer.only_sparse_neighbors:
            count, radius = int(adjacent.sum(-1).max()), 0
        oneself = torch.eye(n, dtype=torch.bool, device=coors.device)
        distance = distance.masked_fill(oneself, -1.0).masked_fill(adjacent & ~oneself, 0.0)
    distance, numbers = distance.topk(count, dim=-1, largest=False)
    return numbers, distance <= radius


def _all_pairs(b: int, n: int) -> Tensor:
    """(2, b n n) all pairs of each graph, with each node's own; the same tensor while it is among the last sizes."""
    return _make_pairs(b, n) if torch.compiler.is_compiling() else _kept_pairs(b, n)


@functools.lru_cache(KEPT_SIZES)
def _kept_pairs(b: int, n: int) -> Tensor:
    # Tensors made in inference mode could not be saved for a backward pass later.
    with torch.inference_mode(False):
        return _make_pairs(b, n)


def _make_pairs(b: int, n: int) -> Tensor:
    place = torch.arange(b * n * n, device="cpu")
    receiver = place // n
    return torch.stack((receiver, receiver // n * n + place % n))


def _pairs_of(numbers: Tensor, n: int) -> Tensor:
    """(2, b n k) the same of chosen second nodes."""
    b, _, k = numbers.shape
    first = torch.arange(b, device=numbers.device).mul(n)[:, None, None]
    receiver = torch.arange(b * n, device=numbers.device)[:, None].expand(-1, k)
    return torch.stack((receiver.reshape(-1), (numbers + first).reshape(-1)))


def _all_masked(mask: Tensor) -> Tensor:
    """(b n n, 1) which pairs consist of nodes that are there; the same tensor for the same mask."""
    return _pair_masks.get((mask,), lambda: (mask[:, :, None] & mask[:, None]).reshape(-1, 1))


def _of_graph(values: Tensor, numbers: Tensor) -> Tensor:
    """(b, n, k) values (b, n) of the nodes with these numbers in their graph."""
    return values[:, None].expand(-1, numbers.shape[1], -1).gather(2, numbers)


def _rows(edges: Tensor, pairs: Pairs) -> Tensor:
    """(E, D) the features (b, n, n, D) of the pairs that are computed."""
    if pairs.numbers is not None:
        edges = edges.gather(2, pairs.numbers[..., None].expand(-1, -1, -1, edges.shape[-1]))
    return pairs.edges.select(edges.reshape(-1, edges.shape[-1]))
