"""The least time that a GPU needs for frame_message: from its bytes, its products and its exponentials.

``python -m benchmarks.roofline --gpu h200`` prints a table. These are bounds by arithmetic, not measurements: nothing
runs on a GPU. Bytes are those that cannot be avoided when every node's row is read once and stays in the cache.
"""

import argparse
from dataclasses import dataclass

# Bytes of an edge's receiver, sender and two places in the sorted orders.
INDEX_BYTES = 4
INDICES_PER_EDGE = 4
MS = 1e3
STORED_BYTES = {"tf32": 4, "bf16": 2}


@dataclass(frozen=True)
class Gpu:
    """What its maker states, without sparsity.

    Attributes:
        bandwidth: of memory, bytes a second.
        products: of tensor cores, multiply-adds counted as two, a second, by type of number.
        exponentials: special functions a second: 16 each cycle on every multiprocessor, by the table of throughputs in
            NVIDIA's CUDA C++ programming guide.
        source: of these numbers.
    """

    name: str
    bandwidth: float
    products: dict[str, float]
    exponentials: float
    source: str


GPUS = {
    "a100": Gpu(
        "NVIDIA A100 SXM 80 GB", 2.039e12, {"tf32": 156e12, "bf16": 312e12}, 108 * 16 * 1.41e9,
        "NVIDIA A100 Tensor Core GPU datasheet, 2021; Ampere architecture whitepaper (multiprocessors, boost clock)",
    ),
    "h100": Gpu(
        "NVIDIA H100 SXM", 3.35e12, {"tf32": 494.7e12, "bf16": 989.4e12}, 132 * 16 * 1.83e9,
        "NVIDIA H100 Tensor Core GPU architecture whitepaper, 2022, tables 2 and 3",
    ),
    "h200": Gpu(
        "NVIDIA H200 SXM", 4.8e12, {"tf32": 494.7e12, "bf16": 989.4e12}, 132 * 16 * 1.83e9,
        "NVIDIA H200 Tensor Core GPU datasheet, 2024 (bandwidth, products); the chip is that of the H100",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class EdgeBlock:
    """A layer's frame_message: H hidden and D edge features, as published ClofNet has them, K neighbours of a node."""

    hidden: int
    edge_dim: int
    num_edges: int
    neighbours: int = 19
    depth: int = 3

    @property
    def num_nodes(self) -> float:
        return self.num_edges / self.neighbours

    @property
    def flops(self) -> float:
        """Of the forward pass on edges: the Linears, H x H but for the first's edge columns, and the head."""
        squares = self.depth * self.hidden**2
        return 2.0 * self.num_edges * (squares + self.edge_dim * self.hidden + 3 * self.hidden)

    @property
    def exponentials(self) -> float:
        """Two special functions for every sigmoid: an exponential and a reciprocal."""
        return 2.0 * self.num_edges * (self.depth + 1) * self.hidden

    def forward_bytes(self, stored: int) -> float:
        per_edge = stored * self.edge_dim + INDICES_PER_EDGE * INDEX_BYTES
        # Both parts of the first Linear, the message; position and vector are float32.
        per_node = stored * 3 * self.hidden + 2 * 3 * 4
        return self.num_edges * per_edge + self.num_nodes * per_node

    def backward_bytes(self, stored: int) -> float:
        """Beside what the forward pass reads: gradients of edge features, and by the first Linear, written and read."""
        per_edge = stored * (self.edge_dim + 3 * self.hidden) + 2 * 4 * 4
        per_node = stored * self.hidden + 4 * 2 * self.hidden + 2 * 3 * 4
        return self.forward_bytes(stored) + self.num_edges * per_edge + self.num_nodes * per_node


@dataclass(frozen=True)
class Bound:
    """Least seconds by each resource; a kernel that overlaps them all perfectly takes the largest."""

    memory: float
    products: float
    exponentials: float

    @property
    def seconds(self) -> float:
        return max(self.memory, self.products, self.exponentials)

    @property
    def limited_by(self) -> str:
        return max(vars(self), key=lambda name: getattr(self, name))


def forward_bound(block: EdgeBlock, gpu: Gpu, precision: str) -> Bound:
    memory = block.forward_bytes(STORED_BYTES[precision]) / gpu.bandwidth
    return Bound(memory, block.flops / gpu.products[precision], block.exponentials / gpu.exponentials)


def backward_bound(block: EdgeBlock, gpu: Gpu, precision: str) -> Bound:
    """The forward pass again, then two products for each of its own, and activations once more."""
    memory = block.backward_bytes(STORED_BYTES[precision]) / gpu.bandwidth
    return Bound(memory, 3 * block.flops / gpu.products[precision], 2 * block.exponentials / gpu.exponentials)


def table(gpu: Gpu, hidden: int, num_edges: int) -> str:
    """Bounds of both passes in every precision."""
    block = EdgeBlock(hidden, hidden // 2, num_edges)
    lines = [
        f"{gpu.name}, {num_edges} edges, H = {hidden}, D = {hidden // 2}: bounds by arithmetic, nothing was run",
        f"({gpu.source})",
        f"{'pass':<10}{'products':<10}{'memory':>10}{'products':>10}{'exp':>10}{'bound ms':>10}  limited by",
    ]
    for name, bound_of in (("forward", forward_bound), ("backward", backward_bound)):
        for precision in gpu.products:
            bound = bound_of(block, gpu, precision)
            times = "".join(f"{MS * value:>10.3f}" for value in vars(bound).values())
            lines.append(f"{name:<10}{precision:<10}{times}{MS * bound.seconds:>10.3f}  {bound.limited_by}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", choices=GPUS, required=True, help="whose datasheet")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128], help="hidden features")
    parser.add_argument("--edges", type=int, nargs="+", default=[10**6, 4 * 10**6], help="edges of the graph")
    options = parser.parse_args(arguments)
    for hidden in options.hidden:
        for num_edges in options.edges:
            print(table(GPUS[options.gpu], hidden, num_edges), end="\n\n")


if __name__ == "__main__":
    main()
