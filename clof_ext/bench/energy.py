"""Energy of calls, from the processors' own counters as Linux shows them (powercap, RAPL of Intel and AMD)."""

import time
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
# Long beside the millisecond in which a counter steps.
SECONDS = 0.5
MICRO = 1e-6


def packages(root: Path = POWERCAP) -> list[Path]:
    """Folders of the processors whose counters this user may read; none in most virtual machines."""
    return [path for path in sorted(root.glob("intel-rapl:?")) if _readable(path / "energy_uj")]


def joules(call: Callable[[], object], found: list[Path], seconds: float = SECONDS) -> float | None:
    """Energy of one call: of the processors, with all that runs on them meanwhile; None without counters.

    Args:
        found: what ``packages`` found.
        seconds: the call is repeated for so long.
    """
    if not found:
        return None
    before, calls, end = [_read(path, "energy_uj") for path in found], 0, time.perf_counter() + seconds
    while calls == 0 or time.perf_counter() < end:
        call()
        calls += 1
    # A counter that passed its end begins again at 0.
    spent = [
        (_read(path, "energy_uj") - start) % _read(path, "max_energy_range_uj")
        for path, start in zip(found, before, strict=True)
    ]
    return MICRO * sum(spent) / calls


def _readable(path: Path) -> bool:
    try:
        path.read_text()
    except OSError:
        return False
    return True


def _read(folder: Path, name: str) -> int:
    return int((folder / name).read_text())
