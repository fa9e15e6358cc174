"""The networks of the task by name."""

from collections.abc import Callable

from torch import nn

from .. import _check
from ..models import EGNN, GNN, ClofNet, LinearMotion, RadialField
from ..training import OptionError
from .external_field import ExternalField
from .moving_frame import MovingFrame
from .pair_features import N_FEATURES, PairFeatures

# |v|; the product of charges and the squared distance.
NODE_DIM, EDGE_DIM = 1, 2

# From features of nodes, number of layers, columns of edge_attr, and further options of the network.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "clofnet": lambda hidden, layers, edge_dim, **options: ClofNet(NODE_DIM, edge_dim, hidden, layers, **options),
    "clofnet-positions": lambda hidden, layers, edge_dim, **options: ClofNet(
        NODE_DIM, edge_dim, hidden, layers, velocity=False, **options
    ),
    "clofnet-gaussian": lambda hidden, layers, edge_dim, **options: ClofNet(
        NODE_DIM, edge_dim, hidden, layers, gaussian_basis=True, **options
    ),
    "egnn": lambda hidden, layers, edge_dim, **options: EGNN(
        NODE_DIM, edge_dim, hidden, layers, velocity=True, **options
    ),
    "gnn": lambda hidden, layers, edge_dim: GNN(hidden, layers),
    "radial-field": lambda hidden, layers, edge_dim: RadialField(edge_dim, hidden, layers),
    "linear": lambda hidden, layers, edge_dim: LinearMotion(),
}
ON_FRAMES = ("clofnet", "clofnet-positions", "clofnet-gaussian", "egnn")
ANY_EDGE_FEATURES = ("clofnet", "clofnet-positions", "egnn")


def make_network(
    name: str,
    hidden_dim: int = 64,
    n_layers: int = 4,
    *,
    frame: str = "soft",
    attention: bool = False,
    tanh: bool = False,
    pair_features: bool = False,
    moving_frame: bool = False,
    external_field: bool = False,
) -> nn.Module:
    """A network for the batches of ``make_batch``, with new weights.

    Args:
        name: ``"clofnet"``; ``"clofnet-positions"``: its edge scalars leave velocities out; ``"clofnet-gaussian"``:
            with Gaussian features of distances; ``"egnn"``, with velocities; ``"gnn"``; ``"radial-field"``;
            ``"linear"``.
        hidden_dim, n_layers: of all but ``"linear"``.
        pair_features: of ``"clofnet"``, ``"clofnet-positions"`` and ``"egnn"``, see ``PairFeatures``.
        moving_frame: see ``MovingFrame``.
        external_field: see ``ExternalField``; such a network has one more argument, ``charges``.
        frame, attention, tanh: of ClofNet and EGNN, see ``models``; the others ignore them.

    Raises:
        ValueError: a name that does not exist.
        OptionError: an option that the network does not have, or pair_features of another network.
    """
    _check.one_of(name, tuple(NETWORKS), "name")
    options = {"frame": frame, "attention": attention, "tanh": tanh} if name in ON_FRAMES else {}
    if pair_features and name not in ANY_EDGE_FEATURES:
        raise OptionError(f"pair features need a network of {', '.join(ANY_EDGE_FEATURES)}; got {name}.")
    try:
        network = NETWORKS[name](hidden_dim, n_layers, EDGE_DIM + N_FEATURES * pair_features, **options)
    except ValueError as error:
        raise OptionError(str(error)) from None
    if pair_features:
        network = PairFeatures(network)
    if moving_frame:
        network = MovingFrame(network)
    return ExternalField(network) if external_field else network
