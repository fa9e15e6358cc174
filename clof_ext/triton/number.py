"""Numbers that may carry a derivative: ``(value,)``, or ``(value, tangent)`` for a dual number.

Formulas are written once on these. Run on dual numbers they give their derivative in the direction of the tangents;
run on a backward pass, second derivatives. The parts of a number are tensors of one shape.
"""

import triton
import triton.language as tl


@triton.jit
def add(x, y):
    out = ()
    for part in tl.static_range(len(x)):
        out = out + (x[part] + y[part],)
    return out


@triton.jit
def sub(x, y):
    out = ()
    for part in tl.static_range(len(x)):
        out = out + (x[part] - y[part],)
    return out


@triton.jit
def neg(x):
    out = ()
    for part in tl.static_range(len(x)):
        out = out + (-x[part],)
    return out


@triton.jit
def mul(x, y):
    if len(x) == 1:
        return (x[0] * y[0],)
    else:
        return (x[0] * y[0], x[0] * y[1] + x[1] * y[0])


@triton.jit
def div(x, y):
    quotient = x[0] / y[0]
    if len(x) == 1:
        return (quotient,)
    else:
        return (quotient, (x[1] - quotient * y[1]) / y[0])


@triton.jit
def reciprocal(x):
    inverse = 1.0 / x[0]
    if len(x) == 1:
        return (inverse,)
    else:
        return (inverse, -inverse * inverse * x[1])


@triton.jit
def square_root(x):
    """Of a positive number."""
    root = tl.sqrt(x[0])
    if len(x) == 1:
        return (root,)
    else:
        return (root, x[1] / (2.0 * root))


@triton.jit
def shift(x, constant):
    """x + constant."""
    if len(x) == 1:
        return (x[0] + constant,)
    else:
        return (x[0] + constant, x[1])


@triton.jit
def where(condition, x, constant):
    """x where the condition holds, elsewhere the constant, whose derivative is 0."""
    if len(x) == 1:
        return (tl.where(condition, x[0], constant),)
    else:
        return (tl.where(condition, x[0], constant), tl.where(condition, x[1], 0.0))


@triton.jit
def results(numbers):
    """What a kernel writes of each number: the value, or of a dual number the derivative."""
    out = ()
    for k in tl.static_range(len(numbers)):
        out = out + (numbers[k][len(numbers[k]) - 1],)
    return out


@triton.jit
def scaled(values, factor):
    """Values, or the parts of a number, times a factor that does not depend on the inputs."""
    out = ()
    for k in tl.static_range(len(values)):
        out = out + (values[k] * factor,)
    return out


@triton.jit
def all_scaled(numbers, factor):
    out = ()
    for k in tl.static_range(len(numbers)):
        out = out + (scaled(numbers[k], factor),)
    return out
