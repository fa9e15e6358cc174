"""Writes the table of docs/gpu.md: what the edge block's kernels use, compiled ahead of time and never run.

``python -m tests.triton.list_resources``; minutes, most of them in ptxas. Triton keeps what it compiled.
"""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from benchmarks.files import replace_between
from clof_ext import __version__
from tests.triton.ahead_of_time import TARGETS, compiled
from tests.triton.edge_blocks import PRECISIONS, EdgeBlock

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
BEGIN, END = "<!-- resources: written by tests/triton/list_resources.py -->", "<!-- end of resources -->"
HEADER = """\
| kernel | hidden | products | tile | target | registers | spilled | shared memory |
|---|---|---|---|---|---|---|---|"""
KERNELS = {
    "message_kernel": "forward",
    "tile_kernel": "backward",
    "rerun_kernel": "backward: forward again",
    "coordinates_kernel": "backward: coord_mlp",
    "layer_kernel": "backward: a Linear",
    "first_kernel": "backward: first Linear",
}
WIDTHS = (64, 128)


def is_listed(name: str, block: EdgeBlock, target: str) -> bool:
    """The backward kernel takes a minute for each: elsewhere than on sm_90 some stand for all."""
    return name != "tile_kernel" or target == "sm_90" or (block.hidden == WIDTHS[0] and block.precision != "3xTF32")


def rows() -> Iterator[str]:
    blocks = [EdgeBlock(hidden, precision) for hidden in WIDTHS for precision in PRECISIONS]
    cases = [(name, block, target) for name in KERNELS for target in TARGETS for block in blocks]
    cases = [case for case in cases if is_listed(*case)]
    for name, block, target in tqdm(cases):
        launch = block.launches(target).get(name)
        if launch is None:  # Wide features have a kernel for each Linear, others one for all.
            continue
        usage = compiled(launch, target)
        tile = f"{launch.constants['EDGES']} edges, {launch.constants['num_warps']} warps"
        unit = "registers" if target.startswith("gfx") else "B"
        yield (
            f"| {KERNELS[name]} | {block.hidden} | {block.precision} | {tile} | {target} | {usage.registers} "
            f"| {usage.spilled} {unit} | {usage.shared / 1024:.0f} KiB |"
        )


def main() -> None:
    table = "\n".join(rows())
    replace_between(PAGE, BEGIN, END, f"Of version {__version__}:\n\n{HEADER}\n{table}\n")


if __name__ == "__main__":
    main()
