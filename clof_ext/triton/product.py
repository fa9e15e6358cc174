"""Products of tiles, in the precision that torch's switches ask for."""

import torch
import triton
import triton.language as tl

HALVES = (torch.bfloat16, torch.float16)
# How operands are multiplied. HALF: as they are stored, in 16 bits. ROUNDED: the same in Triton's interpreter, which
# multiplies the bits of bfloat16. The others are those of tl.dot.
HALF, ROUNDED, IEEE, TF32, THREE_TF32 = "half", "rounded", "ieee", "tf32", "tf32x3"


def precision_of(dtype: torch.dtype, setting: str, interpreted: bool) -> str:
    """What the dtype of features and the setting of ``torch.set_float32_matmul_precision`` ask for.

    ``"highest"`` is three products of TF32 numbers, which lose no more than a float32 product rounds; ``"high"`` and
    ``"medium"`` are TF32, as in torch's own products on a GPU.
    """
    if dtype in HALVES:
        return ROUNDED if interpreted else HALF
    if dtype == torch.float64:
        return IEEE
    return THREE_TF32 if setting == "highest" else TF32


@triton.jit
def product(a, b, total, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """total + a b, with the operands rounded to DTYPE and the sum in the type of the total."""
    a = a.to(DTYPE)
    b = b.to(DTYPE)
    if PRECISION == "half":
        return tl.dot(a, b, total, out_dtype=total.dtype)
    elif PRECISION == "rounded":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee", out_dtype=total.dtype)
    elif PRECISION == "tf32x3" and tl.target_info.is_hip():
        # AMD multiplies float32 itself.
        return tl.dot(a, b, total, input_precision="ieee", out_dtype=total.dtype)
    else:
        return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def selected_sum(selection, rows, total, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """total + selection rows, for a selection of zeros and ones: a sum of rows, which TF32 would round."""
    # Triton's interpreter cannot make bfloat16 of truth values.
    selection = selection.to(rows.dtype)
    if PRECISION == "tf32":
        return product(selection, rows, total, DTYPE, "tf32x3")
    else:
        return product(selection, rows, total, DTYPE, PRECISION)
