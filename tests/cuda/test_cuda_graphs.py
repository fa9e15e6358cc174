"""A layer as CUDA graphs gives what it gives without them; what cannot be captured is refused in words."""

import pytest
import torch

from clof_ext.cuda_graphs import cuda_graphed
from clof_ext.nn import FrameConv
from tests.conformance import points, random_edges


def test_what_is_not_on_a_gpu_is_refused():
    layer = FrameConv(4, 4, 0)
    with pytest.raises(ValueError, match=r"example\[0\] must be on a GPU; got a tensor on cpu"):
        cuda_graphed(layer, torch.zeros(3, 4), torch.zeros(3, 3))
    with pytest.raises(TypeError, match=r"example\[0\] must be a torch.Tensor; got list"):
        cuda_graphed(layer, [1.0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none")
def test_replays_give_what_calls_give():
    torch.manual_seed(0)
    layer = FrameConv(16, 16, 0).cuda()
    edges = random_edges(9, 40).cuda()
    sample = [torch.randn(9, 16), points(9).float()]
    graphed = cuda_graphed(layer, *(value.cuda().requires_grad_() for value in sample), edge_index=edges)
    for factor in (1.0, 0.5):
        inputs = [(factor * value).cuda().requires_grad_() for value in sample]
        found, grads = [], []
        for call in (graphed, lambda h, pos: layer(h, pos, edges)):
            h, pos = call(*inputs)
            found.append([h.detach().clone(), pos.detach().clone()])
            grads.append([grad.clone() for grad in torch.autograd.grad(h.sum() + pos.square().sum(), inputs)])
        for one, two in zip((*found[0], *grads[0]), (*found[1], *grads[1]), strict=True):
            torch.testing.assert_close(one, two)
