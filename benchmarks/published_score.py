"""The published score network of the conformation task, written as programs for PyTorch Geometric are.

One gather, product or scatter after another in plain PyTorch, with every array of edges in memory: what the package's
``ScoreNetwork`` is compared with. The names of the parameters are the published ones.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

N_TYPES = 100
HEAD_WIDTH = 128
NORM_SHIFT = 1e-5
# Keeps the root of 1 - cos^2 and its derivative finite.
MIN_SIN_SQUARED = 1e-10


class FourierProjection(nn.Module):
    """[sin(2 pi u W), cos(2 pi u W)] with fixed frequencies."""

    def __init__(self, n_frequencies: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(n_frequencies), requires_grad=False)

    def forward(self, u: Tensor) -> Tensor:
        angle = 2 * math.pi * u[:, None] * self.W
        return torch.cat((angle.sin(), angle.cos()), 1)


class MultiLayerPerceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class TransformerConv(nn.Module):
    """Graph transformer attention from the edges into each target."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        for name in ("lin_key", "lin_query", "lin_value", "lin_skip"):
            setattr(self, name, nn.Linear(width, width))
        self.lin_edge = nn.Linear(width, width, bias=False)

    def forward(self, h: Tensor, edge_index: Tensor, edge: Tensor) -> Tensor:
        source, target = edge_index
        shape = (-1, self.heads, h.shape[1] // self.heads)
        query, key, value = (linear(h).view(shape) for linear in (self.lin_query, self.lin_key, self.lin_value))
        edge = self.lin_edge(edge).view(shape)
        scores = (query[target] * (key[source] + edge)).sum(-1) / math.sqrt(shape[-1])
        weights = self.dropout(softmax(scores, target, len(h)))
        message = (value[source] + edge) * weights[..., None]
        gathered = torch.zeros_like(value).index_add_(0, target, message)
        return gathered.flatten(1) + self.lin_skip(h)


def softmax(scores: Tensor, target: Tensor, n_nodes: int) -> Tensor:
    """Softmax over the edges into each target."""
    index = target[:, None].expand_as(scores)
    top = torch.full((n_nodes, scores.shape[1]), -math.inf).to(scores)
    top = top.scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - top[target]).exp()
    return weights / torch.zeros_like(top).index_add_(0, target, weights)[target]


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, normalised before they are added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.MHA = TransformerConv(width, heads, dropout)
        self.FFN = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, h: Tensor, edge_index: Tensor, edge: Tensor) -> Tensor:
        z = h + self.norm1(self.MHA(h, edge_index, edge))
        return z + self.norm2(self.FFN(z))


class Equilibrium(nn.Module):
    """The published module that adds the edges' vectors; its one parameter is unused."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))

    def forward(self, coefficients: Tensor, frame: Tensor, target: Tensor, n_nodes: int) -> Tensor:
        vectors = (coefficients[:, :, None] * frame).sum(1)
        return torch.zeros(n_nodes, 3).to(vectors).index_add_(0, target, vectors)


class Backbone(nn.Module):
    """Two blocks of two transformer layers and a head of frame coefficients each."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(
            nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in range(2)) for _ in range(2)
        )
        self.equi_modules = nn.ModuleList(Equilibrium() for _ in range(2))
        self.dynamic_mlp_modules = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, HEAD_WIDTH), nn.Softplus(), nn.Linear(HEAD_WIDTH, 3)) for _ in range(2)
        )

    def forward(self, h: Tensor, edge_index: Tensor, edge: Tensor, frame: Tensor) -> Tensor:
        source, target = edge_index
        total = 0
        for layers, equilibrium, head in zip(self.transformers, self.equi_modules, self.dynamic_mlp_modules):
            h = h + layers[0](h, edge_index, edge).relu()
            h = h + layers[1](h, edge_index, edge)
            coefficients = head(torch.cat((h[source] * h[target], edge), 1))
            total = total + equilibrium(coefficients, frame, target, len(h))
        return total


class EquiDistanceScoreMatch(nn.Module):
    """The published network; its score is that of ``clof_ext.conformation.ScoreNetwork``."""

    def __init__(self, hidden_dim: int = 288, *, heads: int = 8, dropout: float = 0.1, sigmas: Tensor) -> None:
        super().__init__()
        self.sigmas = nn.Parameter(sigmas, requires_grad=False)
        self.node_emb, self.edge_emb = nn.Embedding(N_TYPES, hidden_dim), nn.Embedding(N_TYPES, hidden_dim)
        self.dist_gaussian_fourier = FourierProjection(hidden_dim)
        self.input_mlp = MultiLayerPerceptron(2 * hidden_dim, hidden_dim)
        self.coff_gaussian_fourier = FourierProjection(hidden_dim)
        self.coff_mlp = nn.Linear(4 * hidden_dim, hidden_dim)
        self.project = MultiLayerPerceptron(2 * hidden_dim + 2, hidden_dim, hidden_dim)
        self.model = Backbone(hidden_dim, heads, dropout)

    def score(self, pos: Tensor, atom_type: Tensor, edge_index: Tensor, edge_type: Tensor, sigma: Tensor) -> Tensor:
        source, target = edge_index
        x_i, x_j = pos[source], pos[target]
        difference, frame = x_i - x_j, soft_frame(x_i, x_j)
        distance = difference.norm(dim=1)
        p, q = torch.einsum("eki,ei->ek", frame, x_i), torch.einsum("eki,ei->ek", frame, x_j)
        cos = (p * q).sum(1) / ((p.norm(dim=1) + NORM_SHIFT) * (q.norm(dim=1) + NORM_SHIFT))
        sin = (1 - cos.square()).clamp_min(MIN_SIN_SQUARED).sqrt()
        angles = torch.stack((sin, cos), 1)
        projected = self.project(torch.cat((angles, self.embed(p), self.embed(q)), 1))
        edge = self.edge_emb(edge_type) * self.input_mlp(self.dist_gaussian_fourier(distance)) + projected
        return self.model(self.node_emb(atom_type), edge_index, edge, frame) / sigma.view(-1, 1)

    def embed(self, projection: Tensor) -> Tensor:
        fourier = self.coff_gaussian_fourier
        return self.coff_mlp(torch.cat((fourier(projection[:, 0]), fourier(projection[:, 2])), 1))


def soft_frame(x_i: Tensor, x_j: Tensor) -> Tensor:
    """Rows a, b, c of the soft frame of each edge."""
    a, b = x_i - x_j, torch.linalg.cross(x_i, x_j)
    a, b = (axis / (axis.norm(dim=1, keepdim=True) + 1) for axis in (a, b))
    return torch.stack((a, b, torch.linalg.cross(a, b)), 1)
