"""A ClofNet compiled ahead of time, for programs without Python; main.cpp beside it runs what this writes.

Run ``python -m examples.aoti.export FOLDER``; it takes about a minute. FOLDER then holds ``clofnet.pt2``, the compiled
network, for any numbers of particles and edges; ``inputs.pt``, a list of its arguments; ``outputs.pt``, what Python
makes of them.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

import clof_ext
from clof_ext import models

HIDDEN, N_LAYERS, EDGE_DIM = 32, 2, 2
# Sizes of the example that is traced, and of the inputs that are written: the compiled network takes any.
TRACED, WRITTEN = 5, 7


def arguments(n_particles: int) -> tuple[Tensor, ...]:
    """Speeds (N, 1), positions (N, 3), edges (2, E), edge features (E, 2), velocities (N, 3) of particles."""
    edge_index = clof_ext.newton.fully_connected(n_particles, 1)
    pos, vel = torch.randn(2, n_particles, 3)
    return vel.norm(dim=1, keepdim=True), pos, edge_index, torch.randn(edge_index.shape[1], EDGE_DIM), vel


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = models.ClofNet(node_dim=1, edge_dim=EDGE_DIM, hidden_dim=HIDDEN, n_layers=N_LAYERS).eval()
    nodes, edges = Dim("nodes", min=2), Dim("edges", min=2)
    sizes = {0: nodes}, {0: nodes}, {1: edges}, {0: edges}, {0: nodes}
    with torch.no_grad():
        program = torch.export.export(network, arguments(TRACED), dynamic_shapes=sizes)
        inputs = arguments(WRITTEN)
        torch.save(network(*inputs), folder / "outputs.pt")
    torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "clofnet.pt2"))
    torch.save(list(inputs), folder / "inputs.pt")


if __name__ == "__main__":
    main()
