"""What tests of kernels share."""

import pytest
import torch


@pytest.fixture
def precision():
    """Sets torch's precision of float32 products for one test."""
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)
