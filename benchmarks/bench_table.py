"""The table of a document that ``clof-ext bench --json`` wrote, for a page."""

from clof_ext.bench.record import MIB
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

COLUMNS = (
    *("layer", "layers", "N", "neighbours", "H", "D", "dtype", "pass", "eager ms", "torch.compile ms"),
    *("clof_ext ms (quartiles)", "x eager", "peak MiB eager / clof_ext", "error eager / clof_ext", "cold start s"),
)


def markdown(document: dict) -> list[str]:
    """Lines of a table with a row for each case and pass."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for case in document["cases"]:
        sizes = (
            str(case[name]) for name in ("network", "layers", "nodes", "neighbours", "hidden", "edge_dim", "dtype")
        )
        head = " | ".join(sizes)
        for key in dict.fromkeys(row["pass"] for row in case["measurements"]):
            rows = {row["variant"]: row for row in case["measurements"] if row["pass"] == key}
            lines.append(f"| {head} | {key} | {' | '.join(_cells(rows))} |")
    return lines


def _cells(rows: dict[str, dict]) -> tuple[str, ...]:
    eager, fused = rows[EAGER], rows[FUSED]
    return (
        f"{eager['median_ms']:.3g}",
        f"{rows[COMPILE]['median_ms']:.3g}" if COMPILE in rows else "-",
        f"{fused['median_ms']:.3g} ({fused['lower_ms']:.3g} to {fused['upper_ms']:.3g})",
        f"**{fused['ratio_to_eager']:.2f}**",
        f"{eager['peak_bytes'] / MIB:.3g} / {fused['peak_bytes'] / MIB:.3g}",
        f"{max(eager['errors'].values()):.0e} / {max(fused['errors'].values()):.0e}",
        f"{fused['cold_start_s']:.2g}",
    )
