"""The tables and the summary of a sweep, all made from its JSON document."""

from pathlib import Path

from clof_ext.bench import record
from clof_ext.bench.one_layer import PASSES
from clof_ext.bench.record import MIB
from clof_ext.bench.timing import DISTURBED
from clof_ext.bench.variants import COMPILE, EAGER, FUSED
from clof_ext.training import replace_file

from .sweep_plot import save

GIGA = 1e9
COLUMNS = (
    *("layer", "N", "neighbours", "H", "D"),
    *(f"{key}, ms: eager / torch.compile / clof_ext (quartiles)" for key in PASSES),
    *(f"x eager, {key}" for key in PASSES),
    *("peak MiB eager / clof_ext", "GFLOP/s (of matmul)", "error"),
)
TEXT_HEADERS = ("size", "pass", "eager", "compile", "clof_ext", "quartiles", "x eager", "MiB eager", "MiB", "GFLOP/s")


def write(document: dict, path: Path) -> list[Path]:
    """Write the document as JSON, and its plot beside it."""
    record.write(path, document)
    plot = path.with_suffix(".png")
    replace_file(plot, lambda beside: save(document, beside))
    return [path, plot]


def text(document: dict) -> str:
    """Every size and pass as aligned text, and the summary."""
    lines = [TEXT_HEADERS]
    for case in document["cases"]:
        for key, rows in _by_pass(case).items():
            lines.append((_size(case), key, *_text_cells(rows)))
    twice = ["", "Second derivatives:", *second_derivatives(document)]
    return "\n".join([record.title(document), *record.aligned(lines), "", *_summary(document), *twice])


def _text_cells(rows: dict[str, dict]) -> tuple[str, ...]:
    fused = rows[FUSED]
    return (
        *(_ms(rows, name) for name in (EAGER, COMPILE, FUSED)),
        f"{fused['lower_ms']:.3g}-{fused['upper_ms']:.3g}",
        _ratio(fused),
        f"{rows[EAGER]['peak_bytes'] / MIB:.2f}" if EAGER in rows else "-",
        f"{fused['peak_bytes'] / MIB:.2f}",
        f"{fused['flops_per_s'] / GIGA:.0f}",
    )


def markdown(document: dict) -> list[str]:
    """Lines of a table with a row for each size, and of the summary under it."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(case, document)) + " |" for case in document["cases"] if case["measurements"]]
    return [*lines, "", *_summary(document)]


def _cells(case: dict, document: dict) -> list[str]:
    passes = _by_pass(case)
    steps = passes["forward+backward"]
    rate = steps[FUSED]["flops_per_s"]
    return [
        case["network"] + (f", {case['graph']} graph" if case["graph"] != "systems" else ""),
        *(str(case[name]) for name in ("nodes", "neighbours", "hidden", "edge_dim")),
        *(_times(rows) for rows in passes.values()),
        *(f"**{_ratio(rows[FUSED])}**" for rows in passes.values()),
        " / ".join(f"{steps[name]['peak_bytes'] / MIB:.3g}" if name in steps else "-" for name in (EAGER, FUSED)),
        f"{rate / GIGA:.0f} ({rate / document['gemm']['largest']:.0%})",
        f"{case['errors'][FUSED]:.0e}" if FUSED in case["errors"] else "-",
    ]


def _times(rows: dict[str, dict]) -> str:
    fused = rows[FUSED]
    medians = " / ".join(_ms(rows, name) for name in (EAGER, COMPILE, FUSED))
    return f"{medians} ({fused['lower_ms']:.3g} to {fused['upper_ms']:.3g})"


def _ms(rows: dict[str, dict], variant: str) -> str:
    return f"{rows[variant]['median_ms']:.3g}" if variant in rows else "-"


def _ratio(row: dict) -> str:
    return "-" if row["ratio_to_eager"] is None else f"{row['ratio_to_eager']:.2f}"


def second_derivatives(document: dict) -> list[str]:
    """Lines of a table: a step that differentiates a gradient, eager and with clof_ext."""
    lines = ["| size | eager ms | clof_ext ms | x eager | peak MiB eager / clof_ext |", "|" + " --- |" * 5]
    for case in document["second_derivatives"]:
        eager, fused = case["measurements"]
        peaks = " / ".join(f"{row['peak_bytes'] / MIB:.3g}" for row in (eager, fused))
        cells = [_size(case), f"{eager['median_ms']:.3g}", f"{fused['median_ms']:.3g}", f"**{_ratio(fused)}**", peaks]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def slower(document: dict) -> list[tuple[dict, dict]]:
    """Case and measurement wherever clof_ext's median is above eager's."""
    return [
        (case, row)
        for case in document["cases"]
        for row in case["measurements"]
        if row["variant"] == FUSED and row["ratio_to_eager"] is not None and row["ratio_to_eager"] < 1
    ]


def disturbed(case: dict) -> bool:
    """Whether other programs ran while a case was timed."""
    return any((row.get("others") or 0) > DISTURBED for row in case["measurements"])


def _summary(document: dict) -> list[str]:
    """Where clof_ext is slower than eager, what was not measured, and what the rates are compared with."""
    lost = [f"- {_size(case)}, {row['pass']}: {row['ratio_to_eager']:.2f} x" for case, row in slower(document)]
    left_out: dict[tuple[str, str], list[str]] = {}
    for case in document["cases"]:
        for reason in dict.fromkeys(case["left_out"].values()):
            names = ", ".join(name for name, why in case["left_out"].items() if why == reason)
            left_out.setdefault((names, reason), []).append(_size(case))
    rates = document["gemm"]
    noisy = [_size(case) for case in document["cases"] if disturbed(case)]
    busy = ["Times are the processor's, because the machine was busy.", ""] if document["settings"]["busy"] else []
    return [
        *busy,
        *([f"Other programs used the machine at: {'; '.join(noisy)}.", ""] if noisy else []),
        "Slower than eager PyTorch:" if lost else "Slower than eager PyTorch: at no size.",
        *lost,
        "",
        f"matmul of 1024 and 2048, the largest rate before and after: {rates['largest'] / GIGA:.0f} GFLOP/s.",
        *(["", "Not measured:"] if left_out else []),
        *(f"- {names}: {reason}: {'; '.join(sizes)}" for (names, reason), sizes in left_out.items()),
    ]


def _by_pass(case: dict) -> dict[str, dict[str, dict]]:
    """Measurements by pass, then by variant."""
    passes: dict[str, dict[str, dict]] = {}
    for row in case["measurements"]:
        passes.setdefault(row["pass"], {})[row["variant"]] = row
    return passes


def _size(case: dict) -> str:
    graph = "" if case["graph"] == "systems" else f" {case['graph']} graph"
    sizes = " ".join(f"{sign}={case[name]}" for sign, name in SIGNS.items())
    return f"{case['network']} {sizes}{graph}"


SIGNS = {"N": "nodes", "n": "neighbours", "H": "hidden", "D": "edge_dim"}
