"""The layers in jax.numpy, compiled by XLA.

Edges come sorted by receiver, which the sums are told. Weights, inputs and edges are arguments of the compiled
programs, as in a training.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy
import torch
from jax.ops import segment_sum
from torch import Tensor

from clof_ext.bench.one_layer import Inputs, Layer
from clof_ext.bench.published import VECTOR_BOUND, Clof_GCL

from .program import Program

LAYER_NORM_EPS = 1e-5


def linear(weights, name, x):
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def perceptron(weights, name, depth, x):
    """Linears with SiLU between them, which are every second module of the published Sequential."""
    for k in range(depth):
        x = linear(weights, f"{name}.{2 * k}", x if k == 0 else jax.nn.silu(x))
    return x


def layer_norm(weights, x):
    centred = x - x.mean(1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(1, keepdims=True) + LAYER_NORM_EPS)
    return centred * scale * weights["layer_norm.weight"] + weights["layer_norm.bias"]


def soft(vector):
    return vector / (jnp.linalg.norm(vector, axis=1, keepdims=True) + 1)


def complete_frame(x_i, x_j):
    """ClofNet's three axes."""
    a, b = soft(x_i - x_j), soft(jnp.cross(x_i, x_j))
    return a, b, jnp.cross(a, b)


def layer_outputs(clofnet, weights, leaves, vel, edge_index):
    """Features and positions after EGNN's or ClofNet's layer."""
    h, pos = leaves["h"], leaves["pos"]
    row, col = edge_index
    summed = partial(segment_sum, segment_ids=row, num_segments=len(h), indices_are_sorted=True)
    x_i, x_j = pos[row], pos[col]
    squared_distance = jnp.square(x_i - x_j).sum(1, keepdims=True)
    edge_inputs = jnp.concatenate((h[row], h[col], squared_distance, leaves["edge_attr"]), 1)
    message = jax.nn.silu(perceptron(weights, "edge_mlp", 3 if clofnet else 2, edge_inputs))
    axes = complete_frame(x_i, x_j) if clofnet else (x_i - x_j,)
    coefficients = perceptron(weights, "coord_mlp", 2, message)
    vector = sum(axis * coefficients[:, k : k + 1] for k, axis in enumerate(axes))
    degree = summed(jnp.ones((len(row), 1), h.dtype))
    pos = pos + summed(jnp.clip(vector, -VECTOR_BOUND, VECTOR_BOUND)) / jnp.maximum(degree, 1)
    pos = pos + perceptron(weights, "coord_mlp_vel", 2, h) * vel
    updated = h + perceptron(weights, "node_mlp", 2, jnp.concatenate((h, summed(message)), 1))
    return (layer_norm(weights, h + updated) if clofnet else updated), pos


def step(clofnet, weights, leaves, vel, edge_index, cotangents):
    """Outputs, and gradients in weights and leaves."""
    outputs, back = jax.vjp(lambda *wanted: layer_outputs(clofnet, *wanted, vel, edge_index), weights, leaves)
    return outputs, back(cotangents)


def build(layer: Layer, inputs: Inputs) -> Program:
    clofnet = isinstance(layer.layer, Clof_GCL)
    weights = {name: _to_jax(value) for name, value in layer.layer.named_parameters()}
    leaves = {name: _to_jax(value) for name, value in inputs.leaves.items()}
    arguments = weights, leaves, _to_jax(inputs.vel), _to_jax(inputs.edge_index.int())
    cotangents = tuple(map(_to_jax, inputs.cotangents))
    forward, both = jax.jit(partial(layer_outputs, clofnet)), jax.jit(partial(step, clofnet))

    def run_forward():
        return jax.block_until_ready(forward(*arguments))

    def run_step():
        return jax.block_until_ready(both(*arguments, cotangents))

    def arrays() -> dict[str, Tensor]:
        (h, pos), gradients = run_step()
        found = {"features": h, "displacements": pos - leaves["pos"]}
        found |= {f"gradient of {name}": value for part in gradients for name, value in part.items()}
        h, pos = run_forward()
        found |= {"features alone": h, "displacements alone": pos - leaves["pos"]}
        return {name: torch.from_numpy(numpy.array(value)) for name, value in found.items()}

    return Program({"forward": run_forward, "forward+backward": run_step}, arrays)


def _to_jax(tensor: Tensor) -> jax.Array:
    return jnp.asarray(tensor.detach().numpy())
