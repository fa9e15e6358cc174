"""The blocks of E(3) Equivariant Diffusion and its descendants: GeoLDM, DiffLinker, DiffSBDD.

A block is some layers that update features (GCL) and one that moves positions (EquivariantUpdate). With d = x_i - x_j,
r = |d|^2 and e_ij the distances that the block was given beside its own::

    s_ij = [sin_embedding(r), e_ij], or [r, e_ij]
    m_ij = edge_mlp([h_i, h_j, s_ij])  (* sigmoid(att_mlp(m_ij)) with attention)
    h_i  = h_i + node_mlp([h_i, reduce_j w_ij m_ij])                        in each GCL
    x_i  = x_i + u_i reduce_j w_ij q_ij d / (sqrt(r + 1e-8) + norm_constant),   q_ij = coord_mlp([h_i, h_j, s_ij])

w is the edge mask, u the mask of nodes that may move; a sum is divided by normalization_factor, a mean by the number of
edges. With ``reflection_equiv=False`` (DiffSBDD) positions also move along the cross products of centred positions.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ... import _check, ops
from ..edge_pair import joined
from ..masked_edges import EdgeSet, masked_edges
from ..mlp import linear_tensors, perceptron, with_children
from .fused import FusedForward
from .recognition import (
    UnrecognisedError,
    check_pattern,
    check_state,
    common_activation,
    perceptron_activation,
    sequence,
)
from .trial import N_NODES, bare_copy, random, trial_edges

BLOCK = "EquivariantBlock"
PARTS = {
    "GCL": "it also returns the message of every edge; it is replaced as a part of an EquivariantBlock, which does not",
    "EquivariantUpdate": "it is given a vector for every edge; it is replaced as a part of an EquivariantBlock",
}
UPDATE, CROSS = "gcl_equiv", "cross_product_mlp"
# Parts whose modules the fused forward does not call: it reads their weights.
FUSED_PARTS = ("edge_mlp", "att_mlp", "coord_mlp", CROSS)
REQUIRED = ("h", "x", "edge_index", "edge_attr")
# Masks of nodes that may move, under the names of the descendants.
MOVABLE = ("linker_mask", "update_coords_mask")
KNOWN = {*REQUIRED, *MOVABLE, "node_mask", "edge_mask", "batch_mask"}
REDUCTIONS = ("sum", "mean")
# Added to squared distances before their root is taken.
DISTANCE_SHIFT = 1e-8
# Masks of the trial graph: one node is padding, one does not move, the edges of the padding are none.
NODE_MASK, MOVABLE_MASK = (1, 1, 0, 1, 1, 1), (1, 1, 1, 0, 1, 1)
GRAPH_OF_NODE = (0, 0, 0, 0, 0, 1)
TRIAL_SCALE = 0.1


@dataclass(frozen=True)
class Scaling:
    """What sums over the edges of a node are divided by: a number, or with "mean" how many edges these are."""

    reduce: str
    factor: float

    def __call__(self, total: Tensor, edges: EdgeSet) -> Tensor:
        if self.reduce == "sum":
            return total / self.factor
        return total / edges.counts()[:, None].to(total.dtype)


@dataclass(frozen=True)
class Inputs:
    """What the feature layers and the update of a block read beside h.

    Attributes:
        pos: (N, 3).
        edges: those that are computed.
        scalars: (E, D) features of these edges beside r, which the op computes itself.
        scale: (E,) factor that makes x_i - x_j the vector of an edge.
    """

    pos: Tensor
    edges: EdgeSet
    scalars: Tensor
    scale: Tensor


@dataclass(frozen=True)
class FusedBlock(FusedForward):
    """A block of feature layers and one position update.

    Attributes:
        names: the parameters of the block's own forward, in order.
        activations: of each feature layer and of the update.
        node_activations: of the parts that update nodes, None for one that is called.
        scaling: of messages and vectors.
    """

    names: tuple[str, ...]
    activations: tuple[str, ...]
    node_activations: tuple[str | None, ...]
    scaling: Scaling

    def fused(self, *arguments, **named):
        values = dict(zip(self.names, arguments)) | named
        h, x, node_mask = values["h"], values["x"], values.get("node_mask")
        # Geometry is never computed in half precision.
        pos = x if x.dtype in _check.GEOMETRY_DTYPES else x.float()
        edges = masked_edges(joined(values["edge_index"]), values.get("edge_mask"), x.shape[0])
        inputs = self._inputs(pos, edges, values["edge_attr"], h.dtype)
        *layers, update = _layers(self.layer).values()
        for layer, activation, node_activation in zip(layers, self.activations, self.node_activations):
            message = self.scaling(self._messages(layer, activation, h, inputs), edges).to(h.dtype)
            h = _masked(h + perceptron(layer.node_mlp, node_activation, h, message), node_mask)
        moved = self._vectors(update, update.coord_mlp, h, inputs)
        if update._modules.get(CROSS) is not None:
            moved = moved + self._vectors(
                update, update.cross_product_mlp, h, self._crossed(inputs, values["batch_mask"])
            )
        movable = next((values[name] for name in MOVABLE if values.get(name) is not None), None)
        pos = _masked(pos + _masked(self.scaling(moved, edges), movable), node_mask)
        return _masked(h, node_mask), pos.to(x.dtype)

    def _inputs(self, pos: Tensor, edges: EdgeSet, given: Tensor, dtype: torch.dtype) -> Inputs:
        receiver, sender = edges.plan.edge_index
        squared = (pos[receiver] - pos[sender]).square().sum(1, keepdim=True)
        scale = 1 / ((squared[:, 0] + DISTANCE_SHIFT).sqrt() + self.layer.norm_constant)
        given = edges.select(given)
        if self.layer.sin_embedding is not None:
            given = torch.cat((self.layer.sin_embedding(squared), given), 1)
        return Inputs(pos, edges, given.to(dtype), scale)

    def _crossed(self, inputs: Inputs, graph: Tensor) -> Inputs:
        """The inputs with centred positions, and the factor of their cross products."""
        pos = inputs.pos - _means(inputs.pos, graph)
        receiver, sender = inputs.edges.plan.edge_index
        length = torch.linalg.norm(torch.linalg.cross(pos[receiver], pos[sender]), dim=1)
        return replace(inputs, pos=pos, scale=1 / (length + self.layer.norm_constant))

    def _messages(self, layer: nn.Module, activation: str, h: Tensor, inputs: Inputs) -> Tensor:
        """(N, H) summed messages of a feature layer."""
        edge_mlp = self._edge_mlp(linear_tensors(layer.edge_mlp), h)
        # The op always computes vectors; none are wanted here.
        no_vector = edge_mlp[0].new_zeros(1, len(edge_mlp[0]))
        return ops.frame_message(
            *(h, inputs.pos, inputs.edges.plan, inputs.scalars),
            edge_mlp=edge_mlp,
            att_mlp=linear_tensors(layer.att_mlp) if layer.attention else (),
            coord_mlp=[no_vector],
            edge_weight=inputs.edges.weight_in(h.dtype),
            basis="radial",
            mode="raw",
            activation=activation,
        )[0]

    def _vectors(self, update: nn.Module, mlp: nn.Sequential, h: Tensor, inputs: Inputs) -> Tensor:
        """(N, 3) summed vectors along the edges, or with the other MLP along their cross products."""
        *edge_mlp, head = linear_tensors(mlp)
        crossed = mlp is update._modules.get(CROSS)
        if crossed:
            # In raw frames x_i x x_j is the second axis, (x_i - x_j) x x_i.
            none = torch.zeros_like(head)
            head = torch.cat((none, head, none))
        weight, scale = inputs.edges.weight_in(h.dtype), inputs.scale.to(h.dtype)
        vector = ops.frame_message(
            *(h, inputs.pos, inputs.edges.plan, inputs.scalars),
            edge_mlp=self._edge_mlp(edge_mlp, h),
            coord_mlp=[head],
            edge_weight=scale if weight is None else scale * weight,
            basis="complete" if crossed else "radial",
            mode="raw",
            activation=self.activations[-1],
            tanh=update.tanh,
            vector_reduce="sum",
        )[1]
        return vector * update.coords_range if update.tanh else vector

    def _edge_mlp(self, tensors: list[Tensor], h: Tensor) -> list[Tensor]:
        """The weights with a column for r after those of the nodes, which beside its embedding is no input itself."""
        if self.layer.sin_embedding is None:
            return tensors
        weight, *rest = tensors
        nodes, edges = weight[:, : 2 * h.shape[1]], weight[:, 2 * h.shape[1] :]
        return [torch.cat((nodes, weight.new_zeros(len(weight), 1), edges), 1), *rest]

    def uncalled(self) -> Iterator[tuple[str, nn.Module]]:
        for name, layer in _layers(self.layer).items():
            yield name, layer
            for part, module in layer._modules.items():
                if part in FUSED_PARTS and module is not None:
                    yield from ((f"{name}.{part}", one) for one in with_children(module))

    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        edges, sizes = trial_edges(), self._sizes()
        for training, masks in ((True, {}), (False, self._masks(edges))):
            twin = bare_copy(self.layer, generator).train(training)
            values = {
                "h": random(generator, N_NODES, sizes[0]),
                # Small distances show what is added to them.
                "x": random(generator, N_NODES, 3) * TRIAL_SCALE,
                "edge_index": list(edges),
                "edge_attr": random(generator, edges.shape[1], sizes[1]),
                "batch_mask": torch.tensor(GRAPH_OF_NODE),
                **masks,
            }
            yield twin, tuple(values.get(name) for name in self.names)

    def _masks(self, edges: Tensor) -> dict[str, Tensor]:
        node_mask, movable = (torch.tensor(mask, dtype=torch.float64)[:, None] for mask in (NODE_MASK, MOVABLE_MASK))
        edge_mask = node_mask[edges[0]] * node_mask[edges[1]]
        return {"node_mask": node_mask, "edge_mask": edge_mask, **dict.fromkeys(MOVABLE, movable)}

    def _sizes(self) -> tuple[int, int]:
        """Columns of h and of edge_attr."""
        update = _layers(self.layer)[UPDATE]
        hidden = update.coord_mlp[2].in_features
        columns = update.coord_mlp[0].in_features - 2 * hidden
        embedding = self.layer.sin_embedding
        own = 1 if embedding is None else embedding(torch.ones(1, 1, device="cpu")).shape[1]
        if columns < own:
            raise UnrecognisedError("the shapes of its weights do not belong together")
        return hidden, columns - own

    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        if not (isinstance(result, tuple) and len(result) == 2):
            raise UnrecognisedError("it does not return features and positions")
        return {"features": result[0], "positions": result[1]}


def fused_forward(block: nn.Module) -> FusedBlock:
    """The fused forward of a block, from its class name, attributes, modules and the parameters of its forward.

    Raises:
        UnrecognisedError: anything about the block is not as published.
    """
    names = tuple(inspect.signature(type(block).forward).parameters)[1:]
    if not {*REQUIRED} <= {*names} <= KNOWN:
        raise UnrecognisedError(f"its forward has other parameters: {', '.join(names)}")
    layers = _layers(block)
    check_state(block, {*layers}, optional=("sin_embedding",))
    for attribute in ("sin_embedding", "norm_constant"):
        if not hasattr(block, attribute):
            raise UnrecognisedError(f"it has no attribute {attribute}")
    scalings = {_scaling(layer) for layer in layers.values()}
    if len(scalings) > 1:
        raise UnrecognisedError("its layers are scaled differently")
    activations = tuple((_update if name == UPDATE else _feature_layer)(layer) for name, layer in layers.items())
    node_activations = tuple(
        perceptron_activation(layer, ("node_mlp",)) for name, layer in layers.items() if name != UPDATE
    )
    return FusedBlock(block, names, activations, node_activations, scalings.pop())


def _layers(block: nn.Module) -> dict[str, nn.Module]:
    """The feature layers in order, and the update, by name."""
    names = [*(f"gcl_{k}" for k in range(block.n_layers)), UPDATE]
    return {name: block._modules[name] for name in names}


def _scaling(layer: nn.Module) -> Scaling:
    if layer.aggregation_method not in REDUCTIONS:
        raise UnrecognisedError(f"its aggregation_method is {layer.aggregation_method!r}")
    return Scaling(layer.aggregation_method, float(layer.normalization_factor))


def _feature_layer(layer: nn.Module) -> str:
    """The activation of a feature layer, whose parts are checked."""
    check_state(layer, {"edge_mlp", "node_mlp"}, optional=("att_mlp",))
    edge_mlp = sequence(layer, "edge_mlp")
    check_pattern(edge_mlp, "edge_mlp", [nn.Linear, None, nn.Linear, None])
    if layer.attention:
        check_pattern(sequence(layer, "att_mlp"), "att_mlp", [nn.Linear, nn.Sigmoid])
    return common_activation(edge_mlp[1::2])


def _update(layer: nn.Module) -> str:
    """The activation of the position update, whose parts are checked."""
    check_state(layer, {"coord_mlp"}, optional=(CROSS,))
    activations = []
    for name in layer._modules:
        modules = sequence(layer, name)
        check_pattern(modules, name, [nn.Linear, None, nn.Linear, None, nn.Linear])
        activations += modules[1::2]
    return common_activation(activations)


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


def _means(pos: Tensor, graph: Tensor) -> Tensor:
    """(N, 3) for each node the mean position of its graph; there are at most as many graphs as nodes."""
    total = torch.zeros_like(pos).index_add(0, graph, pos)
    ones = torch.ones_like(pos[:, :1])
    count = torch.zeros_like(ones).index_add(0, graph, ones)
    return (total / count.clamp(min=1))[graph]
