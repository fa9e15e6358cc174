"""The networks of the task by name."""

from collections.abc import Callable

from torch import nn

from .. import _check
from ..models import EGNN, GNN, ClofNet, LinearMotion, RadialField

# |v|; the product of charges and the squared distance.
NODE_DIM, EDGE_DIM = 1, 2

# From features of nodes, number of layers, and further options of the network.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "clofnet": lambda hidden, layers, **options: ClofNet(NODE_DIM, EDGE_DIM, hidden, layers, **options),
    "clofnet-positions": lambda hidden, layers, **options: ClofNet(
        NODE_DIM, EDGE_DIM, hidden, layers, velocity=False, **options
    ),
    "clofnet-gaussian": lambda hidden, layers, **options: ClofNet(
        NODE_DIM, EDGE_DIM, hidden, layers, gaussian_basis=True, **options
    ),
    "egnn": lambda hidden, layers, **options: EGNN(NODE_DIM, EDGE_DIM, hidden, layers, velocity=True, **options),
    "gnn": lambda hidden, layers: GNN(hidden, layers),
    "radial-field": lambda hidden, layers: RadialField(EDGE_DIM, hidden, layers),
    "linear": lambda hidden, layers: LinearMotion(),
}
ON_FRAMES = ("clofnet", "clofnet-positions", "clofnet-gaussian", "egnn")


def make_network(
    name: str,
    hidden_dim: int = 64,
    n_layers: int = 4,
    *,
    frame: str = "soft",
    attention: bool = False,
    tanh: bool = False,
) -> nn.Module:
    """A network for the batches of ``make_batch``, with new weights.

    Args:
        name: ``"clofnet"``; ``"clofnet-positions"``: its edge scalars leave velocities out; ``"clofnet-gaussian"``:
            with Gaussian features of distances; ``"egnn"``, with velocities; ``"gnn"``; ``"radial-field"``;
            ``"linear"``.
        hidden_dim, n_layers: of all but ``"linear"``.
        frame, attention, tanh: of ClofNet and EGNN, see ``models``; the others ignore them.

    Raises:
        ValueError: a name or option that does not exist.
    """
    _check.one_of(name, tuple(NETWORKS), "name")
    options = {"frame": frame, "attention": attention, "tanh": tanh} if name in ON_FRAMES else {}
    return NETWORKS[name](hidden_dim, n_layers, **options)
