"""The published layers and networks in plain, unfused PyTorch: what is replaced, and what is measured as eager.

Written from the mathematics, with the class names, constructor arguments, call conventions and parameter names of the
public programs of ClofNet and EGNN, and with their cost: concatenated edge inputs, every edge's activations kept, sums
by scatter with expanded indices, positions updated in place.
"""
# ruff: noqa: N801 (the published names)

import torch
from torch import Tensor, nn

VECTOR_BOUND = 100
COORD_GAIN = 0.001
COS_SHIFT = 1e-5
WIDTH_SHIFT = 1e-5
PI = 3.14159


def scatter_sum(values: Tensor, index: Tensor, n_rows: int) -> Tensor:
    total = values.new_zeros(n_rows, values.shape[1])
    return total.scatter_add_(0, index[:, None].expand_as(values), values)


def scatter_mean(values: Tensor, index: Tensor, n_rows: int) -> Tensor:
    count = scatter_sum(torch.ones_like(values), index, n_rows)
    return scatter_sum(values, index, n_rows) / count.clamp(min=1)


def length(vectors: Tensor) -> Tensor:
    return vectors.pow(2).sum(1, keepdim=True).sqrt()


def local_frame(x_i: Tensor, x_j: Tensor, norm_diff: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The three axes of every edge, each (E, 3)."""
    a, b = x_i - x_j, torch.linalg.cross(x_i, x_j)
    if norm_diff:
        a, b = a / (length(a) + 1), b / (length(b) + 1)
    return a, b, torch.linalg.cross(a, b)


class E_GCL(nn.Module):
    """EGNN's layer."""

    n_axes = 1
    edge_depth = 2

    def __init__(
        self,
        input_nf: int,
        output_nf: int,
        hidden_nf: int,
        edges_in_d: int = 0,
        nodes_att_dim: int = 0,
        act_fn: nn.Module | None = None,
        recurrent: bool = True,
        coords_weight: float = 1.0,
        attention: bool = False,
        norm_diff: bool = False,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        act_fn = act_fn or nn.SiLU()
        self.recurrent, self.attention, self.tanh = recurrent, attention, tanh
        self.norm_diff, self.coords_weight = norm_diff, coords_weight
        edge_layers = [nn.Linear(2 * input_nf + 1 + edges_in_d, hidden_nf), act_fn]
        for _ in range(self.edge_depth - 1):
            edge_layers += [nn.Linear(hidden_nf, hidden_nf), act_fn]
        self.edge_mlp = nn.Sequential(*edge_layers)
        self.node_mlp = nn.Sequential(
            nn.Linear(input_nf + hidden_nf + nodes_att_dim, hidden_nf), act_fn, nn.Linear(hidden_nf, output_nf)
        )
        head = nn.Linear(hidden_nf, self.n_axes, bias=False)
        nn.init.xavier_uniform_(head.weight, gain=COORD_GAIN)
        coord_layers = [nn.Linear(hidden_nf, hidden_nf), act_fn, head]
        if tanh:
            coord_layers.append(nn.Tanh())
            # Not a parameter and never read, but it is what makes such a layer impossible to deep-copy.
            self.coords_range = nn.Parameter(torch.ones(1)) * 3
        self.coord_mlp = nn.Sequential(*coord_layers)
        if attention:
            self.att_mlp = nn.Sequential(nn.Linear(hidden_nf, 1), nn.Sigmoid())

    def axes(self, x_i: Tensor, x_j: Tensor) -> tuple[Tensor, ...]:
        d = x_i - x_j
        return (d / (length(d) + 1) if self.norm_diff else d,)

    def messages(self, h: Tensor, edge_index: Tensor, coord: Tensor, edge_attr: Tensor | None) -> Tensor:
        row, col = edge_index
        radial = (coord[row] - coord[col]).pow(2).sum(1, keepdim=True)
        parts = [h[row], h[col], radial] + ([] if edge_attr is None else [edge_attr])
        message = self.edge_mlp(torch.cat(parts, 1))
        return message * self.att_mlp(message) if self.attention else message

    def move(self, coord: Tensor, edge_index: Tensor, message: Tensor) -> Tensor:
        row, col = edge_index
        coefficients = self.coord_mlp(message)
        axes = self.axes(coord[row], coord[col])
        vector = sum(axis * coefficients[:, k : k + 1] for k, axis in enumerate(axes))
        vector = vector.clamp(min=-VECTOR_BOUND, max=VECTOR_BOUND)
        coord += self.coords_weight * scatter_mean(vector, row, coord.shape[0])
        return coord

    def features(self, h: Tensor, edge_index: Tensor, message: Tensor, node_attr: Tensor | None) -> Tensor:
        total = scatter_sum(message, edge_index[0], h.shape[0])
        update = self.node_mlp(torch.cat([h, total] + ([] if node_attr is None else [node_attr]), 1))
        return h + update if self.recurrent else update

    def forward(self, h, edge_index, coord, edge_attr=None, node_attr=None):
        message = self.messages(h, edge_index, coord, edge_attr)
        coord = self.move(coord, edge_index, message)
        return self.features(h, edge_index, message, node_attr), coord, edge_attr


class E_GCL_vel(E_GCL):
    """EGNN's layer with velocities."""

    def __init__(self, input_nf, output_nf, hidden_nf, edges_in_d=0, nodes_att_dim=0, act_fn=None, **options) -> None:
        act_fn = act_fn or nn.SiLU()
        super().__init__(input_nf, output_nf, hidden_nf, edges_in_d, nodes_att_dim, act_fn, **options)
        self.coord_mlp_vel = nn.Sequential(nn.Linear(input_nf, hidden_nf), act_fn, nn.Linear(hidden_nf, 1))

    def forward(self, h, edge_index, coord, vel, edge_attr=None, node_attr=None):
        message = self.messages(h, edge_index, coord, edge_attr)
        coord = self.move(coord, edge_index, message)
        coord += self.coord_mlp_vel(h) * vel
        return self.features(h, edge_index, message, node_attr), coord, edge_attr


class Clof_GCL(E_GCL_vel):
    """ClofNet's layer."""

    n_axes = 3
    edge_depth = 3

    def __init__(self, input_nf, output_nf, hidden_nf, *sizes, **options) -> None:
        super().__init__(input_nf, output_nf, hidden_nf, *sizes, **options)
        self.layer_norm = nn.LayerNorm(hidden_nf)

    def axes(self, x_i: Tensor, x_j: Tensor) -> tuple[Tensor, ...]:
        return local_frame(x_i, x_j, self.norm_diff)

    def forward(self, h, edge_index, coord, vel, edge_attr=None, node_attr=None):
        updated, coord, edge_attr = super().forward(h, edge_index, coord, vel, edge_attr, node_attr)
        return self.layer_norm(h + updated), coord, edge_attr


class LayeredNetwork(nn.Module):
    """Holds its layers as gcl_0, gcl_1, ..."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.n_layers = len(layers)
        for k, layer in enumerate(layers):
            self.add_module(f"gcl_{k}", layer)

    def layers(self) -> list[nn.Module]:
        return [self._modules[f"gcl_{k}"] for k in range(self.n_layers)]


class ClofNet_vel(LayeredNetwork):
    """ClofNet for particles with velocities."""

    n_scalars = 14

    def __init__(self, in_node_nf, in_edge_nf, hidden_nf, n_layers=4, *, norm_diff=True, act_fn=None, **options):
        act_fn = act_fn or nn.SiLU()
        half = hidden_nf // 2
        options = {"edges_in_d": half, "act_fn": act_fn, "norm_diff": norm_diff, **options}
        super().__init__([Clof_GCL(hidden_nf, hidden_nf, hidden_nf, **options) for _ in range(n_layers)])
        self.norm_diff = norm_diff
        self.embedding_node = nn.Linear(in_node_nf, hidden_nf)
        width = self.n_scalars + self.attributes_fused(in_edge_nf)
        self.fuse_edge = nn.Sequential(nn.Linear(width, half), act_fn, nn.Linear(half, half), act_fn)

    def attributes_fused(self, in_edge_nf: int) -> int:
        return in_edge_nf

    def scalars(self, edges: Tensor, x: Tensor, vel: Tensor) -> Tensor:
        """Edge scalars; with velocities always on soft frames."""
        return self.project(edges, [x, vel], True)

    def project(self, edges: Tensor, vectors: list[Tensor], norm_diff: bool) -> Tensor:
        """sin, cos and every vector's components on the frame, at both ends of every edge."""
        row, col = edges
        x = vectors[0]
        frame = torch.stack(local_frame(x[row], x[col], norm_diff), 1)
        parts = [(frame @ vector[end][:, :, None])[:, :, 0] for vector in vectors for end in (row, col)]
        p, q = parts[:2]
        norms = (p.norm(dim=1, keepdim=True) + COS_SHIFT) * (q.norm(dim=1, keepdim=True) + COS_SHIFT)
        cos = (p * q).sum(1, keepdim=True) / norms
        return torch.cat([(1 - cos**2).sqrt(), cos, *parts], 1)

    def edge_features(self, edges: Tensor, x: Tensor, vel: Tensor, edge_attr: Tensor) -> Tensor:
        return self.fuse_edge(torch.cat([edge_attr, self.scalars(edges, x, vel)], 1))

    def forward(self, h, x, edges, vel, edge_attr, node_attr=None, n_nodes=5):
        h = self.embedding_node(h)
        graphs = x.reshape(-1, n_nodes, 3)
        center = graphs.mean(1, keepdim=True)
        x = (graphs - center).reshape(-1, 3)
        features = self.edge_features(edges, x, vel, edge_attr)
        for layer in self.layers():
            h, x, _ = layer(h, edges, x, vel, edge_attr=features, node_attr=node_attr)
        return (x.reshape(-1, n_nodes, 3) + center).reshape(-1, 3)


class ClofNet(ClofNet_vel):
    """ClofNet whose edge scalars leave velocities out; it holds an embedding that it never reads."""

    n_scalars = 8

    def __init__(self, in_node_nf, in_edge_nf, *sizes, **options) -> None:
        super().__init__(in_node_nf, in_edge_nf, *sizes, **options)
        self.embedding_edge = nn.Sequential(nn.Linear(in_edge_nf, 8), nn.SiLU())

    def scalars(self, edges: Tensor, x: Tensor, vel: Tensor) -> Tensor:
        return self.project(edges, [x], self.norm_diff)


class GaussianLayer(nn.Module):
    """Gaussians of a scaled and shifted value, in float32."""

    def __init__(self, n_basis: int, n_types: int = 8) -> None:
        super().__init__()
        self.means, self.stds = nn.Embedding(1, n_basis), nn.Embedding(1, n_basis)
        self.mul, self.bias = nn.Embedding(n_types, 1), nn.Embedding(n_types, 1)

    def forward(self, value: Tensor, kind: Tensor) -> Tensor:
        value = (self.mul(kind) * value[:, None] + self.bias(kind)).float()
        width = self.stds.weight.float().abs() + WIDTH_SHIFT
        density = torch.exp(-0.5 * ((value - self.means.weight.float()) / width) ** 2) / ((2 * PI) ** 0.5 * width)
        return density.to(self.means.weight.dtype)


class ClofNet_vel_gbf(ClofNet_vel):
    """ClofNet_vel with Gaussian features of a typed value in place of the plain edge attributes."""

    def __init__(self, in_node_nf, in_edge_nf, hidden_nf, *sizes, **options) -> None:
        super().__init__(in_node_nf, in_edge_nf, hidden_nf, *sizes, **options)
        self.gbf = GaussianLayer(hidden_nf // 2)

    def attributes_fused(self, in_edge_nf: int) -> int:
        return 0

    def edge_features(self, edges: Tensor, x: Tensor, vel: Tensor, edge_attr: Tensor) -> Tensor:
        kind = (0.5 * edge_attr[:, 0] + 0.5).long()
        return self.fuse_edge(self.scalars(edges, x, vel)) + self.gbf(edge_attr[:, 1], kind)


class EGNN(LayeredNetwork):
    """EGNN without velocities."""

    def __init__(self, in_node_nf, in_edge_nf, hidden_nf, n_layers=4, *, act_fn=None, **options) -> None:
        options = {"edges_in_d": in_edge_nf, "act_fn": act_fn or nn.LeakyReLU(0.2), **options}
        super().__init__([E_GCL(hidden_nf, hidden_nf, hidden_nf, **options) for _ in range(n_layers)])
        self.embedding = nn.Linear(in_node_nf, hidden_nf)

    def forward(self, h, x, edges, edge_attr, vel=None):
        h = self.embedding(h)
        for layer in self.layers():
            h, x, _ = layer(h, edges, x, edge_attr=edge_attr)
        return x


class EGNN_vel(LayeredNetwork):
    """EGNN with velocities."""

    def __init__(self, in_node_nf, in_edge_nf, hidden_nf, n_layers=4, *, recurrent=False, **options) -> None:
        options = {"edges_in_d": in_edge_nf, "recurrent": recurrent, **options}
        super().__init__([E_GCL_vel(hidden_nf, hidden_nf, hidden_nf, **options) for _ in range(n_layers)])
        self.embedding = nn.Linear(in_node_nf, hidden_nf)

    def forward(self, h, x, edges, vel, edge_attr):
        h = self.embedding(h)
        for layer in self.layers():
            h, x, _ = layer(h, edges, x, vel, edge_attr=edge_attr)
        return x
