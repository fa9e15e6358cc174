"""How frame_message's kernels are cut into tiles: one table, from what ahead-of-time compilation shows.

Each tile is the largest of those whose numbers stay in registers, or nearly so (docs/gpu.md lists what is used); it was
chosen without a GPU. What else may be faster on one, ``tuning`` finds out where that is asked for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

# Registers of a multiprocessor, and the most that a thread can have. Left alone, ptxas may choose far fewer, and spill.
REGISTERS, MAX_REGISTERS = 2**16, 255
THREADS_PER_WARP = 32
# AMD's warps are twice as large.
AMD_THREADS_PER_WARP = 64


@dataclass(frozen=True)
class Tile:
    """Edges of a tile, and warps (of NVIDIA's size) of the program that holds it.

    More than one stage loads tiles before their turn: only for kernels that read nothing that they wrote. Fewer
    registers for a thread let more programs share a multiprocessor.
    """

    edges: int
    warps: int
    stages: int = 1
    registers: int = MAX_REGISTERS

    @property
    def constants(self) -> dict:
        """What a launch takes."""
        always = {"EDGES": self.edges, "num_stages": self.stages}
        if torch.version.hip:
            return {**always, "num_warps": self.warps * THREADS_PER_WARP // AMD_THREADS_PER_WARP}
        registers = min(self.registers, REGISTERS // (THREADS_PER_WARP * self.warps))
        return {**always, "num_warps": self.warps, "maxnreg": registers}

    @property
    def programs(self) -> int:
        """Programs that fit on a multiprocessor when every thread takes all registers that it may."""
        return max(1, REGISTERS // (self.registers * THREADS_PER_WARP * self.warps))


# (pass, precision of products) -> tiles for up to 64 and up to 128 hidden features.
TILES: dict[tuple[str, str], tuple[Tile, Tile]] = {
    ("forward", "half"): (Tile(64, 4), Tile(32, 4)),
    ("forward", "tf32"): (Tile(32, 4), Tile(32, 8)),
    ("forward", "tf32x3"): (Tile(32, 4), Tile(16, 8)),
    ("backward", "half"): (Tile(64, 4), Tile(32, 8)),
    ("backward", "tf32"): (Tile(64, 8), Tile(32, 8)),
    ("backward", "tf32x3"): (Tile(16, 4), Tile(16, 8)),
}
SMALL_HIDDEN = 64


class SplitTiles(NamedTuple):
    """The tiles of a backward pass with a kernel for each Linear, see ``frame_message_split``.

    The other tiles divide those of ``rerun``, which leaves whole ones.
    """

    rerun: Tile
    coordinates: Tile
    layer: Tile
    first: Tile


# Precision of products -> tiles for more than 64 hidden features. Tiles of 64 edges and more are multiplied by the
# instructions of Hopper's tensor cores for groups of four warps, whose operands lie in shared memory.
SPLIT_TILES: dict[str, SplitTiles] = {
    "half": SplitTiles(Tile(128, 8), Tile(64, 8, 2), Tile(64, 8, 2), Tile(64, 8, 2)),
    "tf32": SplitTiles(Tile(128, 8), Tile(64, 8), Tile(64, 8, 3), Tile(64, 8, 2)),
}
# What else is worth timing, in the same order.
OTHER_TILES: dict[tuple[str, str], tuple[tuple[Tile, ...], tuple[Tile, ...]]] = {
    ("forward", "half"): ((Tile(32, 4), Tile(128, 8)), (Tile(64, 4), Tile(64, 8))),
    ("forward", "tf32"): ((Tile(16, 4), Tile(64, 8)), (Tile(16, 4), Tile(32, 4), Tile(64, 8))),
    ("backward", "half"): ((Tile(32, 4), Tile(128, 8)), ()),
    ("backward", "tf32"): ((Tile(32, 4), Tile(32, 8)), ()),
}
OTHER_SPLIT_TILES: dict[str, tuple[SplitTiles, ...]] = {
    "half": (
        SplitTiles(Tile(128, 8), Tile(64, 8), Tile(64, 8), Tile(64, 8)),
        SplitTiles(Tile(128, 8), Tile(128, 8), Tile(128, 8), Tile(128, 8)),
    ),
    "tf32": (
        SplitTiles(Tile(128, 8), Tile(64, 8), Tile(64, 8), Tile(64, 8)),
        SplitTiles(Tile(64, 4), Tile(64, 8), Tile(64, 8, 3), Tile(64, 8, 3)),
    ),
}
# Of the few hidden features that float64 may have; in the interpreter any tile will do.
OTHER = Tile(32, 4)


def tile_for(direction: str, precision: str, hidden: int) -> Tile:
    """The tile of a pass, ``"forward"`` or ``"backward"``."""
    small, large = TILES.get((direction, precision), (OTHER, OTHER))
    return small if hidden <= SMALL_HIDDEN else large


def keeps_weights(device: torch.device) -> bool:
    """Whether products can take a weight from shared memory, as those of compute capability 9 do."""
    if device.type != "cuda" or torch.version.hip:
        return False
    return torch.cuda.get_device_capability(device)[0] == 9


def ways(direction: str, precision: str, hidden: int, device: torch.device) -> tuple[Tile | SplitTiles, ...]:
    """How a pass may be made, the default first: by one kernel, or backward by a kernel for each Linear."""
    wide = hidden > SMALL_HIDDEN
    found = (tile_for(direction, precision, hidden), *OTHER_TILES.get((direction, precision), ((), ()))[wide])
    if direction == "backward" and wide and keeps_weights(device) and precision in SPLIT_TILES:
        return (SPLIT_TILES[precision], *OTHER_SPLIT_TILES[precision], *found)
    return found


def multiprocessors(device: torch.device) -> int:
    """Of a GPU; in the interpreter one, so that programs have several tiles."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
