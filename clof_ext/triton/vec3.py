"""Vectors, tuples of three numbers, and 3 x 3 matrices, tuples of three rows."""

import triton
import triton.language as tl

from . import number


@triton.jit
def add(u, v):
    out = ()
    for axis in tl.static_range(3):
        out = out + (number.add(u[axis], v[axis]),)
    return out


@triton.jit
def sub(u, v):
    out = ()
    for axis in tl.static_range(3):
        out = out + (number.sub(u[axis], v[axis]),)
    return out


@triton.jit
def neg(v):
    return (number.neg(v[0]), number.neg(v[1]), number.neg(v[2]))


@triton.jit
def scale(factor, v):
    return (number.mul(factor, v[0]), number.mul(factor, v[1]), number.mul(factor, v[2]))


@triton.jit
def dot(u, v):
    return number.add(number.add(number.mul(u[0], v[0]), number.mul(u[1], v[1])), number.mul(u[2], v[2]))


@triton.jit
def cross(u, v):
    return (
        number.sub(number.mul(u[1], v[2]), number.mul(u[2], v[1])),
        number.sub(number.mul(u[2], v[0]), number.mul(u[0], v[2])),
        number.sub(number.mul(u[0], v[1]), number.mul(u[1], v[0])),
    )


@triton.jit
def matvec(m, v):
    return (dot(m[0], v), dot(m[1], v), dot(m[2], v))


@triton.jit
def transposed_matvec(m, v):
    return add(add(scale(v[0], m[0]), scale(v[1], m[1])), scale(v[2], m[2]))


@triton.jit
def outer(u, v):
    """u v^T: row k is u_k v."""
    return (scale(u[0], v), scale(u[1], v), scale(u[2], v))


@triton.jit
def add_matrix(m, n):
    return (add(m[0], n[0]), add(m[1], n[1]), add(m[2], n[2]))


@triton.jit
def zero_matrix(zero, DUAL: tl.constexpr):
    """Of numbers like the tensor zero."""
    nothing = (zero, zero) if DUAL else (zero,)
    row = (nothing, nothing, nothing)
    return row, row, row
