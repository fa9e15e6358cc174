"""Time, memory and error of the fused edge block: one ClofNet layer, and the network of four, beside eager PyTorch.

Run ``python -m benchmarks.bench_frame_message``; ``--help`` lists what can be chosen. The network here is the package's
own ClofNet with the weights of the published one; what ``replace_layers`` gives is measured by ``throughput``.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import clof_ext
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.published import Clof_GCL, ClofNet_vel
from clof_ext.bench.timing import interleave

from . import roofline

DEVICE = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """Fully connected systems of particles with random states."""

    n_systems: int
    n_particles: int
    hidden: int

    @property
    def num_nodes(self) -> int:
        return self.n_systems * self.n_particles

    def edges(self) -> Tensor:
        one = torch.ones(self.n_particles, self.n_particles).fill_diagonal_(0).nonzero().T
        return torch.cat([one + self.n_particles * k for k in range(self.n_systems)], 1)


# Calls that return what is differentiated: by eager PyTorch and by clof_ext.
Pair = tuple[Callable[[], list[Tensor]], Callable[[], list[Tensor]]]


def layer(batch: Batch) -> Pair:
    """One layer on random features; everything wants a gradient."""
    hidden, edge_dim = batch.hidden, batch.hidden // 2
    plain = Clof_GCL(hidden, hidden, hidden, edge_dim, norm_diff=True)
    fused = clof_ext.nn.FrameConv(hidden, hidden, edge_dim, velocity=True)
    fused.load_state_dict(plain.state_dict())
    edges, vel = batch.edges(), torch.randn(batch.num_nodes, 3)
    h = torch.randn(batch.num_nodes, hidden, requires_grad=True)
    pos = torch.randn(batch.num_nodes, 3, requires_grad=True)
    edge_attr = torch.randn(edges.shape[1], edge_dim, requires_grad=True)
    # The published layer writes into the positions that it is given.
    return (
        lambda: list(plain(h, edges, pos.clone(), vel, edge_attr)[:2]),
        lambda: list(fused(h, pos, edges, edge_attr, vel)),
    )


def network(batch: Batch) -> Pair:
    """Four layers, the edge features and the embedding."""
    plain = ClofNet_vel(1, 2, batch.hidden)
    fused = clof_ext.models.ClofNet(1, 2, batch.hidden)
    fused.load_state_dict(plain.state_dict())
    edges, graph = batch.edges(), torch.arange(batch.num_nodes) // batch.n_particles
    pos, vel = torch.randn(2, batch.num_nodes, 3)
    speed, edge_attr = vel.norm(dim=1, keepdim=True), torch.randn(edges.shape[1], 2)
    return (
        lambda: [plain(speed, pos.clone(), edges, vel, edge_attr, n_nodes=batch.n_particles)],
        lambda: [fused(speed, pos, edges, edge_attr, vel, batch=graph)],
    )


def forward(call: Callable[[], list[Tensor]]) -> Callable[[], object]:
    return torch.no_grad()(call)


def step(call: Callable[[], list[Tensor]]) -> Callable[[], object]:
    """Forward and backward; gradients pile up in the parameters of both programs alike."""
    return lambda: sum(out.sum() for out in call()).backward()


def largest_error(pair: Pair) -> float:
    """Of the fused program's outputs, in units of the eager program's largest value."""
    with torch.no_grad():
        eager, fused = (call() for call in pair)
    return max(float((two - one).abs().max() / one.abs().max()) for one, two in zip(eager, fused, strict=True))


def measure(name: str, pair: Pair, repeats: int) -> None:
    """Print a line for the forward pass and one for a whole step."""
    error = largest_error(pair)
    for label, of in (("forward", forward), ("forward + backward", step)):
        calls = {"eager": of(pair[0]), "clof_ext": of(pair[1])}
        for call in calls.values():
            call()
        eager, fused = interleave(calls, seconds=0, repeats=repeats, device=DEVICE).values()
        megabytes = [peak_bytes(call, DEVICE) / 1e6 for call in calls.values()]
        print(
            f"{name:24} {label:19} {1e3 * eager.median:8.1f} {1e3 * fused.median:8.1f} ms "
            f"{eager.median / fused.median:6.2f} x   (quartiles {1e3 * fused.lower:.1f} to {1e3 * fused.upper:.1f})   "
            f"{megabytes[0]:7.1f} {megabytes[1]:7.1f} MB   error {error:.0e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64], help="hidden features")
    parser.add_argument("--particles", type=int, nargs="+", default=[20, 5], help="particles of a system")
    parser.add_argument("--systems", type=int, default=128, help="systems of a batch")
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each measurement")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    parser.add_argument("--gpu", choices=roofline.GPUS, help="print this GPU's bounds too: arithmetic, nothing is run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    module = clof_ext._backends.binary()
    print(f"{options.threads} threads, {module.instruction_set() if module else 'no binary'}; eager, clof_ext, ratio")
    for hidden in options.hidden:
        for particles in options.particles:
            batch = Batch(options.systems, particles, hidden)
            for make in (layer, network):
                measure(f"{make.__name__} H={hidden} n={particles}", make(batch), options.repeats)
            if options.gpu:
                print(roofline.table(roofline.GPUS[options.gpu], hidden, batch.edges().shape[1]))


if __name__ == "__main__":
    main()
