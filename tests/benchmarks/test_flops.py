"""Counted operations are those that PyTorch's own counter sees."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

import clof_ext
from benchmarks.flops import products
from clof_ext.bench import variants
from clof_ext.bench.one_layer import LAYERS, PASSES, Layer, Size, make_inputs, make_layer


def counted(layer: Layer, size: Size, key: str) -> int:
    inputs = make_inputs(size)
    with FlopCounterMode(display=False) as counter:
        PASSES[key](layer, inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("edge_dim", [0, 5])
@pytest.mark.parametrize("network", LAYERS)
@pytest.mark.parametrize("split", [False, True])
def test_products_are_those_that_torch_counts(network: str, edge_dim: int, split: bool):
    """The definition of the edge block splits its first Linear as the fused kernels do, but keeps its activations."""
    size = Size(network, nodes=12, neighbours=3, hidden=7, edge_dim=edge_dim)
    layer = make_layer(size)
    found = products(layer.layer, size.nodes, size.edges, split=split)
    with clof_ext.backend("reference"):
        layer = variants.fused(layer) if split else layer
        assert found.forward == counted(layer, size, "forward")
        assert found.step(recompute=False) == counted(layer, size, "forward+backward")
    assert found.step(recompute=True) - found.step(recompute=False) == found.edge_block
