"""Which precision of float32 products the user has asked torch for."""

import torch
from torch import Tensor

# Where torch keeps the setting for a kind of device, and its names there for what is not "highest".
PRECISION_SWITCH = {"cpu": "mkldnn", "cuda": "cuda"}
PRECISION_NAMES = {"tf32": "high", "bf16": "medium"}


def matmul_precision(device: str) -> str:
    """What ``torch.set_float32_matmul_precision``, or the device's own switch, says now.

    ``torch.get_float32_matmul_precision`` raises an error where the switches of devices differ. torch.compile keeps the
    value that it finds; its guards see a change between "highest" and the others.
    """
    switch = PRECISION_SWITCH.get(device)
    setting = switch and torch._C._get_fp32_precision_getter(switch, "matmul")
    return PRECISION_NAMES.get(setting, "highest")


# All that torch.compiler.assume_constant_result does, which would load torch._dynamo: seconds, for every import.
matmul_precision._dynamo_marked_constant = True


def is_autocast(device: str) -> bool:
    """Whether autocast is on for a kind of device; meta has none."""
    # torch.compile of torch 2.11 cannot ask whether a kind of device has it.
    return device != "meta" and torch.is_autocast_enabled(device)


def float32_under_autocast(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The tensors of an op without half precision: where autocast is on, those in half precision as float32."""
    device = next(tensor.device.type for tensor in tensors if isinstance(tensor, Tensor))
    if not is_autocast(device):
        return tensors
    halves = (torch.bfloat16, torch.float16)
    return tuple(
        tensor.float() if isinstance(tensor, Tensor) and tensor.dtype in halves else tensor for tensor in tensors
    )
