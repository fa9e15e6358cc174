"""The published score network of conformation generation."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import _check, ops
from .._backends import kernels_for
from ..nn.mlp import COORD_GAIN
from ..reference.edge_frame import safe_norm
from .directed import DirectedEdges, directed, pair_product
from .edge_attention import edge_attention, edge_product
from .neighbourhoods import Neighbourhoods, neighbourhoods
from .noise import checked_levels, noise_levels
from .waves import Waves

N_TYPES = 100
N_BLOCKS = 2
HEAD_WIDTH = 128
# The frame of an edge seen from its other end: a and b change sign, c does not.
REVERSAL = (-1.0, -1.0, 1.0)


class ScoreNetwork(nn.Module):
    """Score of perturbed conformers on complete local frames; parameters have the published names.

    With source i, target j, the ``soft`` frame (a, b, c) = F of the edge at the perturbed positions, sin and cos of
    the angle between F x_i and F x_j, and Fourier(u) = [sin(2 pi u W), cos(2 pi u W)]::

        edge  = edge_emb(type) * input_mlp(Fourier(|x_i - x_j|)) + project([sin, cos, E(F x_i), E(F x_j)])
        E(s)  = coff_mlp([Fourier(s_0), Fourier(s_2)])
        h     = node_emb(atom_type), then in each of two blocks
        h     = h + relu(layer_0(h));  h = h + layer_1(h)                              graph transformer layers
        q_ij  = dynamic_mlp([h_i * h_j, edge_ij]);  s_j += sum_i q_0 a + q_1 b + q_2 c
        score = s / sigma

    coff_mlp and the first layer of project are one linear map, and c . x_i = c . x_j, because c is orthogonal to
    x_i - x_j. So project's input is a sum of three functions of one variable each; see ``Waves``.

    Args:
        hidden_dim: H; a multiple of heads.
        heads: of the attention.
        dropout: of attention weights and in the feed-forward networks, in training mode.
        sigmas: (L,) levels of noise in angstrom, falling, for training and sampling; ``noise_levels()`` if None.
            Weights bring their own: ``load_state_dict`` takes any number of levels.

    Raises:
        ValueError: hidden_dim is no multiple of heads, or sigmas are not two or more falling positive numbers.

    Source: Du et al., ICML 2022, section 6.2 and appendix; ``EquiDistanceScoreMatch`` of the published program.
    """

    def __init__(
        self, hidden_dim: int = 288, *, heads: int = 8, dropout: float = 0.1, sigmas: Tensor | None = None
    ) -> None:
        super().__init__()
        if heads < 1 or hidden_dim % heads:
            raise ValueError(f"hidden_dim must be a multiple of heads, {heads}; got {hidden_dim}.")
        self.hidden_dim, self.heads, self.dropout = hidden_dim, heads, dropout
        self.sigmas = nn.Parameter(noise_levels() if sigmas is None else checked_levels(sigmas), requires_grad=False)
        self.register_load_state_dict_pre_hook(_make_room_for_levels)
        self.node_emb = nn.Embedding(N_TYPES, hidden_dim)
        self.edge_emb = nn.Embedding(N_TYPES, hidden_dim)
        self.dist_gaussian_fourier = Waves(hidden_dim)
        self.input_mlp = _Layers(2 * hidden_dim, hidden_dim)
        self.coff_gaussian_fourier = Waves(hidden_dim)
        self.coff_mlp = nn.Linear(4 * hidden_dim, hidden_dim)
        self.project = _Layers(2 * hidden_dim + 2, hidden_dim, hidden_dim)
        self.model = _Backbone(hidden_dim, heads, dropout)

    def forward(self, *arguments: Tensor) -> Tensor:
        """``score``: modules that wrap this one, as for training in several processes, call it so."""
        return self.score(*arguments)

    def score(self, pos: Tensor, atom_type: Tensor, edge_index: Tensor, edge_type: Tensor, sigma: Tensor) -> Tensor:
        """Score of every atom.

        Args:
            pos: (N, 3) perturbed positions in angstrom, used as given; differentiable once.
            atom_type: (N,) int64 atomic numbers.
            edge_index: (2, E) sources and targets. Its sorted form is cached for its life: pass the same tensor again.
            edge_type: (E,) int64 bond types, 23 and 24 for edges between atoms two and three bonds apart.
            sigma: (N,) or (N, 1) noise of each atom, in angstrom.

        Returns:
            (N, 3), in 1 / angstrom.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape or index.
        """
        _check.positions(pos)
        n_nodes = len(pos)
        _check.shape(atom_type, (n_nodes,), "atom_type")
        _check.shape(edge_type, (edge_index.shape[-1],), "edge_type")
        if sigma.numel() != n_nodes:
            raise ValueError(f"sigma must have one number for each atom, {n_nodes}; got {tuple(sigma.shape)}.")
        if kernels_for("edge_attention", pos.device):
            near = directed(edge_index, n_nodes)
            return self._total(pos, atom_type, edge_type, near) / sigma.view(-1, 1)
        near = neighbourhoods(edge_index, n_nodes)
        order = near.node_order
        total = self._total(pos[order], atom_type[order], edge_type[near.edge_order], near)
        return torch.empty_like(total).index_copy(0, order, total) / sigma.view(-1, 1)

    def _total(self, pos: Tensor, atom_type: Tensor, edge_type: Tensor, near: Neighbourhoods | DirectedEdges) -> Tensor:
        edge = self._edge_features(pos, edge_type, near)
        return self.model(self.node_emb.weight, atom_type, edge, pos, near)

    def _edge_features(self, pos: Tensor, edge_type: Tensor, near: Neighbourhoods | DirectedEdges) -> Tensor:
        # The op's frame is that of the reversed edge: its receiver is our target.
        scalars = ops.edge_scalars(pos, near.plan)
        ends = pos.index_select(0, near.source), pos.index_select(0, near.target)
        distance = safe_norm((ends[0] - ends[1]).square().sum(1))
        angles, along_target, along_source, across = scalars[:, :2], -scalars[:, 2], -scalars[:, 5], scalars[:, 7]
        hidden = self._projected(angles, (along_source, along_target, across))
        projected = self.project.layers[1](hidden)
        of_distance = self.input_mlp.layers[0]
        lengths = self.dist_gaussian_fourier.tabled((distance,), (of_distance.weight,))
        kinds, kind = edge_type.unique(return_inverse=True)
        if lengths is not None and len(kinds) * len(lengths.rows) <= len(edge_type):
            return lengths.scaled(self.edge_emb(kinds), kind, of_distance.bias).read(projected)
        features = self.dist_gaussian_fourier.mapped((distance,), (of_distance.weight,)) + of_distance.bias
        return torch.addcmul(projected, self.edge_emb(edge_type), features)

    def _projected(self, angles: Tensor, projections: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """relu of project's first layer: its input is a sum of functions of a . x_i, a . x_j and c . x_i."""
        layer = self.project.layers[0]
        by_angle, by_source, by_target = layer.weight.split((2, self.hidden_dim, self.hidden_dim), 1)
        along, over = self.coff_mlp.weight.split(2 * self.hidden_dim, 1)
        by_both = by_source + by_target
        weights = by_source @ along, by_target @ along, by_both @ over
        bias = layer.bias + by_both @ self.coff_mlp.bias
        table = self.coff_gaussian_fourier.tabled(projections, weights)
        if table is None:
            waves = self.coff_gaussian_fourier.mapped(projections, weights)
            return (torch.addmm(bias, angles, by_angle.T) + waves).relu()
        shares = torch.cat((angles, torch.ones_like(angles[:, :1])), 1)
        return table.with_rows(torch.cat((by_angle.T, bias[None])), shares).read(relu=True)


def _make_room_for_levels(network: ScoreNetwork, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    levels = state.get(f"{prefix}sigmas")
    if levels is not None and levels.ndim == 1:
        network.sigmas.data = levels.detach().to(network.sigmas, copy=True)


class _Layers(nn.Module):
    """Linear layers under the name ``layers``."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))


class _Backbone(nn.Module):
    """Blocks of two transformer layers and a head of frame coefficients each."""

    def __init__(self, hidden_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(
            nn.ModuleList(_TransformerLayer(hidden_dim, heads, dropout) for _ in range(2)) for _ in range(N_BLOCKS)
        )
        self.equi_modules = nn.ModuleList(_Unused() for _ in range(N_BLOCKS))
        self.dynamic_mlp_modules = nn.ModuleList(_head(hidden_dim) for _ in range(N_BLOCKS))

    def forward(
        self, embedding: Tensor, atom_type: Tensor, edge: Tensor, pos: Tensor, near: Neighbourhoods | DirectedEdges
    ) -> Tensor:
        h, coefficients, types = F.embedding(atom_type, embedding), 0, _Types(embedding, atom_type)
        products = self._products(edge, near)
        for (first, second), head, product in zip(self.transformers, self.dynamic_mlp_modules, products, strict=True):
            h = h + first(h, edge, near, types).relu()
            h, types = h + second(h, edge, near), None
            coefficients = coefficients + head[2](product(h))
        reversal = coefficients.new_tensor(REVERSAL)
        return ops.aggregate((coefficients * reversal)[:, None], pos, near.plan)[:, 0]

    def _products(self, edge: Tensor, near: Neighbourhoods | DirectedEdges) -> list[Callable[[Tensor], Tensor]]:
        """What the first layer and the activation of each head make of h and the edges, as functions of h."""
        layers = [head[0] for head in self.dynamic_mlp_modules]
        if isinstance(near, Neighbourhoods):
            return [partial(edge_product, edge=edge, weight=one.weight, bias=one.bias, near=near) for one in layers]
        # The edges' part of all heads in one product.
        of_product, of_edge = zip(*(one.weight.split(edge.shape[1], 1) for one in layers), strict=True)
        parts = F.linear(edge, torch.cat(of_edge), torch.cat([one.bias for one in layers])).chunk(len(layers), 1)
        return [
            partial(pair_product, weight=weight, of_edge=part, edges=near)
            for weight, part in zip(of_product, parts, strict=True)
        ]


def _head(hidden_dim: int) -> nn.Sequential:
    """Frame coefficients from features of an edge and its ends; scores start small."""
    last = nn.Linear(HEAD_WIDTH, 3)
    nn.init.xavier_uniform_(last.weight, gain=COORD_GAIN)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(2 * hidden_dim, HEAD_WIDTH), nn.Softplus(), last)


class _Unused(nn.Module):
    """Holds a parameter that the published weights have and nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1), requires_grad=False)


class _Types(NamedTuple):
    """Features that are equal for all atoms of a type: a table of types, and each atom's."""

    table: Tensor
    number: Tensor


class _TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each normalised before it is added."""

    def __init__(self, hidden_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.MHA = _Attention(hidden_dim, heads, dropout)
        self.FFN = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, hidden_dim)
        )
        self.norm1, self.norm2 = nn.LayerNorm(hidden_dim), nn.LayerNorm(hidden_dim)

    def forward(
        self, h: Tensor, edge: Tensor, near: Neighbourhoods | DirectedEdges, types: _Types | None = None
    ) -> Tensor:
        z = h + self.norm1(self.MHA(h, edge, near, types))
        return z + self.norm2(self.FFN(z))


class _Attention(nn.Module):
    """Multi-head attention whose keys and values are linear in the source's features and the edge's."""

    def __init__(self, hidden_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.lin_key, self.lin_query, self.lin_value = (nn.Linear(hidden_dim, hidden_dim) for _ in range(3))
        self.lin_edge = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.lin_skip = nn.Linear(hidden_dim, hidden_dim)

    def forward(
        self, h: Tensor, edge: Tensor, near: Neighbourhoods | DirectedEdges, types: _Types | None = None
    ) -> Tensor:
        """With ``types``, rows of whose table h is, Linears act on the table."""

        def mapped(linear: nn.Linear) -> Tensor:
            return linear(h) if types is None else F.embedding(types.number, linear(types.table))

        query, skip = mapped(self.lin_query), mapped(self.lin_skip)
        if isinstance(near, DirectedEdges):
            key, value = mapped(self.lin_key), mapped(self.lin_value)
            keep = self._keep(edge)
            return skip + ops.edge_attention(
                query, key, value, edge, self.lin_edge.weight, near.plan, heads=self.heads, keep=keep
            )
        shape = (self.heads, h.shape[1] // self.heads, -1)
        key, value, along = (part.weight.view(shape) for part in (self.lin_key, self.lin_value, self.lin_edge))
        keep = self._keep(edge)
        out, total = edge_attention(
            query.view(-1, *shape[:2]), h, edge, torch.cat((key, along), 2), torch.cat((value, along), 2), near, keep
        )
        out = out + total[..., None] * self.lin_value.bias.view(shape[:2])
        # The key's bias adds the same number to all scores of an atom, which the softmax does not see. Its gradient is
        # 0 and not None, because data-parallel training waits for the gradients of all parameters.
        return out.flatten(1) + skip + 0 * self.lin_key.bias

    def _keep(self, edge: Tensor) -> Tensor | None:
        """Factors of the attention weights: (E, K) in training, else None."""
        if not (self.training and self.dropout):
            return None
        return F.dropout(edge.new_ones(len(edge), self.heads), self.dropout)
