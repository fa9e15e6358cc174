"""One message-passing layer on local frames: ClofNet's and EGNN's are two settings of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import _check, ops
from ..graph import EdgePlan, as_plan
from ..reference.frame_message import BASIS_SIZE
from .activation import KNOWN, SIGMOID
from .layer_step import Inputs, LayerOptions, Weights, layer_step, side_by_side
from .mlp import activated_mlp, check_read, coord_head, linear_tensors, mlp, perceptron, weights_to_read
from .norm import added, norm_of_sum

# The parts of a layer that live on edges, and those of nodes, as Weights has them.
EDGE_PARTS, NODE_PARTS = Weights._fields[:3], Weights._fields[3:]


@dataclass(frozen=True)
class BasisDefaults:
    """What the published layer of a basis has where the caller names nothing else."""

    mlp_depth: int
    layer_norm: bool


DEFAULTS = {"complete": BasisDefaults(mlp_depth=3, layer_norm=True), "radial": BasisDefaults(2, layer_norm=False)}


def convolve(
    layer: nn.Module,
    options: LayerOptions,
    h: Tensor,
    pos: Tensor,
    edge_index: Tensor | EdgePlan,
    edge_attr: Tensor | None,
    vel: Tensor | None,
    node_attr: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The update of h and pos by any module that holds the published submodules.

    ``layer`` has edge_mlp, coord_mlp and node_mlp, and may have att_mlp, coord_mlp_vel (then vel is read) and
    layer_norm.
    """
    vel = vel if "coord_mlp_vel" in layer._modules else None
    update, pos, owned = _update(layer, options, Inputs(h, pos, vel, edge_attr, node_attr), edge_index)
    if "layer_norm" in layer._modules:
        # Of h there is one for the LayerNorm, and one more for the update.
        return norm_of_sum(layer.layer_norm, update, h, times=1 + options.recurrent, owned=owned), pos
    return added(update, h, times=1, owned=owned) if options.recurrent else update, pos


def _update(
    layer: nn.Module, options: LayerOptions, inputs: Inputs, edge_index: Tensor | EdgePlan
) -> tuple[Tensor, Tensor, bool]:
    """What node_mlp gives, and the new positions: in one step, or op by op; whether nobody else has seen the first."""
    of_edges = [_tensors(layer._modules.get(name)) for name in EDGE_PARTS]
    parts = [layer._modules.get(name) for name in NODE_PARTS]
    of_nodes = [[] if part is None else weights_to_read(part, options.node_activation) for part in parts]
    if None in of_nodes:
        return *_op_by_op(layer, options, inputs, edge_index, of_edges), False
    try:
        found = layer_step(inputs, edge_index, Weights(*of_edges, *of_nodes), options)
    except Exception:
        # The ops say in more detail what is wrong.
        _op_by_op(layer, options, inputs, edge_index, of_edges)
        raise
    if found is None:
        return *_op_by_op(layer, options, inputs, edge_index, of_edges), False
    return *found, True


def _tensors(part: nn.Module | None) -> list[Tensor]:
    return [] if part is None else linear_tensors(part)


def _op_by_op(
    layer: nn.Module,
    options: LayerOptions,
    inputs: Inputs,
    edge_index: Tensor | EdgePlan,
    of_edges: list[list[Tensor]],
) -> tuple[Tensor, Tensor]:
    h, pos, vel, edge_attr, node_attr = inputs
    edge_mlp, att_mlp, coord_mlp = of_edges
    message, vector = ops.frame_message(
        *(h, pos, edge_index, edge_attr),
        edge_mlp=edge_mlp,
        att_mlp=att_mlp,
        coord_mlp=coord_mlp,
        **options.of_messages(),
    )
    # As few calls as can be: on a GPU a small graph's layer takes as long as starting its kernels does.
    pos = torch.add(pos, vector, alpha=options.coords_weight)
    if "coord_mlp_vel" in layer._modules:
        pos = torch.addcmul(pos, perceptron(layer.coord_mlp_vel, options.node_activation, h), vel)
    return perceptron(layer.node_mlp, options.node_activation, *side_by_side(h, message, node_attr)), pos


class FrameConv(nn.Module):
    """Message passing on complete local frames, or along edges alone, with an update of features and positions.

    With (a, b, c) the frame of the edge from j to i, d = x_i - x_j and n_i the number of edges of i::

        m_ij = edge_mlp([h_i, h_j, |d|^2, e_ij])  (* sigmoid(att_mlp(m_ij)) with attention)
        q_ij = coord_mlp(m_ij)  (tanh of it as an option)
        t_ij = clamp(q_0 a + q_1 b + q_2 c, -100, 100)  (q_0 a alone with the basis "radial")
        x_i  = x_i + coords_weight sum_j t_ij / max(n_i, 1)  (+ coord_mlp_vel(h_i) v_i with velocity)
        u_i  = node_mlp([h_i, sum_j m_ij, node_attr_i])
        h_i  = h_i + u_i if recurrent, else u_i;  with layer_norm LayerNorm(h_i + that)

    The defaults of the basis "complete" are ClofNet's layer (published as Clof_GCL, with velocity=True), those of
    "radial" EGNN's (E_GCL with frame="raw" where norm_diff=False; E_GCL_vel with velocity=True). Parameters have the
    published names. Positions are used as given: frames are translation invariant only after centring, which
    ``models.ClofNet`` does. The weights of edge_mlp, att_mlp and coord_mlp are read, parametrizations included; their
    modules are not called, and so no hooks on them.

    Args:
        in_dim: features of a node before the layer.
        hidden_dim: features of a message, and of a node after the layer.
        edge_dim: features of an edge, D; may be 0.
        basis: ``"complete"`` (SO(3)-equivariant, sees reflections) or ``"radial"`` (O(3)-equivariant).
        velocity: add the velocity term; forward then needs vel.
        mlp_depth: Linears in edge_mlp, 1 to 3; 3 for "complete", 2 for "radial" if not given.
        attention: gate messages by att_mlp.
        tanh: bound the coefficients.
        recurrent: add h to the update.
        layer_norm: end in a LayerNorm; True for "complete", False for "radial" if not given.
        coords_weight: factor of the position update.
        frame: ``"soft"``, ``"raw"`` or ``"orthonormal"``, see ``ops.edge_frame``.
        node_attr_dim: columns of node_attr.
        activation: see ``ops.frame_message``.

    Raises:
        ValueError: an option that does not exist, or in_dim != hidden_dim where h is added to the update.

    Source: Du et al., ICML 2022, section 4.3; Satorras et al., ICML 2021, section 3.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        edge_dim: int,
        *,
        basis: str = "complete",
        velocity: bool = False,
        mlp_depth: int | None = None,
        attention: bool = False,
        tanh: bool = False,
        recurrent: bool = True,
        layer_norm: bool | None = None,
        coords_weight: float = 1.0,
        frame: str = "soft",
        node_attr_dim: int = 0,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        _check.one_of(basis, tuple(BASIS_SIZE), "basis")
        _check.one_of(frame, _check.MODES, "frame")
        depth = DEFAULTS[basis].mlp_depth if mlp_depth is None else mlp_depth
        _check.one_of(depth, (1, 2, 3), "mlp_depth")
        layer_norm = DEFAULTS[basis].layer_norm if layer_norm is None else layer_norm
        if (recurrent or layer_norm) and in_dim != hidden_dim:
            raise ValueError(
                f"in_dim must equal hidden_dim, {hidden_dim}, where recurrent or layer_norm adds h; got {in_dim}."
            )
        self.options = LayerOptions(
            basis, frame, activation, tanh, recurrent, coords_weight, node_activation=activation
        )
        self.edge_dim, self.node_attr_dim = edge_dim, node_attr_dim
        hidden = [hidden_dim] * depth
        self.edge_mlp = activated_mlp([2 * in_dim + 1 + edge_dim, *hidden], activation)
        self.node_mlp = mlp([in_dim + hidden_dim + node_attr_dim, hidden_dim, hidden_dim], activation)
        self.coord_mlp = coord_head(hidden_dim, hidden_dim, BASIS_SIZE[basis], activation, tanh=tanh)
        if attention:
            self.att_mlp = nn.Sequential(nn.Linear(hidden_dim, 1), nn.Sigmoid())
        if velocity:
            self.coord_mlp_vel = mlp([in_dim, hidden_dim, 1], activation)
        if layer_norm:
            self.layer_norm = nn.LayerNorm(hidden_dim)

    def forward(
        self,
        h: Tensor,
        pos: Tensor,
        edge_index: Tensor | EdgePlan,
        edge_attr: Tensor | None = None,
        vel: Tensor | None = None,
        node_attr: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One update of features and positions.

        Args:
            h: (N, in_dim) node features.
            pos: (N, 3) positions, float32 or float64.
            edge_index: (2, E) receivers and senders, or an EdgePlan.
            edge_attr: (E, edge_dim), or None if edge_dim is 0.
            vel: (N, 3) velocities in the dtype of pos, in units of length; exactly where the layer was made with
                velocity=True.
            node_attr: (N, node_attr_dim), or None if node_attr_dim is 0.

        Returns:
            h (N, hidden_dim) and pos (N, 3).

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape, device or index, or an argument missing or in excess.
            ValueError: a module of edge_mlp, att_mlp or coord_mlp was exchanged for one that computes something else.
        """
        _check.positions(pos)
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        _check.columns(edge_attr, plan.num_edges, self.edge_dim, "edge_attr")
        _check.columns(node_attr, plan.num_nodes, self.node_attr_dim, "node_attr")
        self._check_velocity(vel, pos)
        self._check_parts()
        return convolve(self, self.options, h, pos, plan, edge_attr, vel, node_attr)

    def _check_velocity(self, vel: Tensor | None, pos: Tensor) -> None:
        if (vel is not None) != hasattr(self, "coord_mlp_vel"):
            wanted = "given to a layer with velocity=True" if vel is None else "None for a layer with velocity=False"
            raise ValueError(f"vel must be {wanted}; got {'None' if vel is None else 'a tensor'}.")
        if vel is not None:
            _check.velocities(vel, pos)

    def _check_parts(self) -> None:
        """The parts on edges are what the options say. Those of nodes are called where they are not."""
        activation, tanh = self.options.activation, KNOWN["tanh"] if self.options.tanh else None
        check_read(self, "edge_mlp", activation, KNOWN[activation])
        check_read(self, "coord_mlp", activation, tanh)
        if "att_mlp" in self._modules:
            check_read(self, "att_mlp", activation, SIGMOID)

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in vars(self.options).items())
