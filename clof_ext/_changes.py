"""Whether a tensor is still what something was made from."""

from torch import Tensor


def state_of(tensor: Tensor) -> tuple:
    """Equal to what it was before as long as torch tells of no change: of values in place, of memory, of shape.

    Not to be asked of tensors made in inference mode, which do not count their changes.
    """
    try:
        # Fake tensors have no memory, which they say by a warning; those inside of torch.func's transforms by an error.
        address = tensor.data_ptr() if type(tensor) is Tensor else None
    except RuntimeError:
        address = None
    return tensor._version, address, tensor.shape
