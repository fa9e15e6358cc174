"""The layer with PyTorch Geometric's conventions."""

import copy
import warnings

import pytest
import torch

from clof_ext import nn
from clof_ext.nn.edge_pair import turned
from tests.systems import make_system

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    geometric = pytest.importorskip("torch_geometric", reason="needs PyTorch Geometric")
    from torch_geometric.data import Batch, Data

    from clof_ext import pyg

F, H, D = 4, 4, 3
SETTINGS = {
    "complete": {},
    "radial": {"basis": "radial"},
    "velocity": {"velocity": True, "tanh": True},
    "node_attr": {"node_attr_dim": 2, "attention": True},
}


def layer(**options) -> pyg.FrameConv:
    torch.manual_seed(0)
    made = pyg.FrameConv(F, H, D, **options).double()
    torch.nn.init.normal_(made.coord_mlp[2].weight)
    return made


def data(options: dict, seed: int = 1) -> Data:
    """A system whose edges run from sources to targets."""
    system = make_system(F, D, seed)
    optional = {"vel": system.vel} if options.get("velocity") else {}
    if options.get("node_attr_dim"):
        optional["node_attr"] = system.h[:, :2]
    edges = system.edge_index.flip(0)
    return Data(x=system.h, pos=system.pos, edge_index=edges, edge_attr=system.edge_attr, **optional)


def arguments(graph: Data) -> tuple:
    return tuple(graph.get(name) for name in pyg.FIELDS)


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_is_frame_conv_with_edges_turned(options):
    conv, graph = layer(**options), data(options)
    plain = nn.FrameConv(F, H, D, **options).double()
    plain.load_state_dict(conv.state_dict())
    x, pos, edge_index, *others = arguments(graph)
    expected = plain(x, pos, edge_index.flip(0), *others)
    assert (expected[1] - pos).abs().max() > 0.01
    turned = layer(**options, flow="target_to_source")
    for actual in (conv(*arguments(graph)), turned(x, pos, edge_index.flip(0), *others)):
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_data_in_data_out(options):
    conv, graph = layer(**options), data(options)
    before = copy.deepcopy(graph)
    updated = conv(graph)
    for value, wanted in zip((updated.x, updated.pos), conv(*arguments(graph)), strict=True):
        assert torch.equal(value, wanted)
    assert updated.edge_attr is graph.edge_attr
    assert torch.equal(graph.x, before.x)
    assert torch.equal(graph.pos, before.pos)


def test_batch_is_graph_by_graph():
    conv, graphs = layer(), [data({}, seed) for seed in (1, 2, 3)]
    updated = conv(Batch.from_data_list(graphs)).to_data_list()
    for one, graph in zip(updated, graphs, strict=True):
        torch.testing.assert_close(one.x, conv(graph).x)
        torch.testing.assert_close(one.pos, conv(graph).pos)


def test_in_pyg_sequential():
    conv, graph = layer(), data({})
    model = geometric.nn.Sequential(
        "x, pos, edge_index, edge_attr", [(conv, "x, pos, edge_index, edge_attr -> x, pos")]
    )
    for value, wanted in zip(model(*arguments(graph)[:4]), conv(*arguments(graph)), strict=True):
        assert torch.equal(value, wanted)


def test_edges_are_turned_once():
    edge_index = data({}).edge_index
    assert turned(edge_index) is turned(edge_index)


def test_errors():
    conv, graph = layer(), data({})
    x, pos, edge_index, edge_attr, *_ = arguments(graph)
    with pytest.raises(ValueError, match=r"x must be one tensor .* got a tuple, as for a bipartite graph"):
        conv((x, x), pos, edge_index, edge_attr)
    with pytest.raises(ValueError, match=r"pos must be one tensor for all nodes, .* got a list"):
        conv(x, [pos, pos], edge_index, edge_attr)
    with pytest.raises(TypeError, match=r"edge_index must be a torch.Tensor; got NoneType"):
        conv(x, pos)
    with pytest.raises(ValueError, match=r"edge_index must have shape \(2, E\)"):
        conv(x, pos, edge_index.T, edge_attr)
    with pytest.raises(ValueError, match=r"flow must be one of"):
        pyg.FrameConv(F, H, flow="both")
