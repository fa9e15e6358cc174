"""Puts the table and the plot of a throughput run into README.md: ``python -m benchmarks.readme FILE.json``."""

import sys
from pathlib import Path

from clof_ext.bench import record

from . import report
from .files import replace_between

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN = "<!-- throughput: made by `python -m benchmarks.readme`; do not edit -->"
END = "<!-- /throughput -->"
COLUMNS = ("network", "pass", "eager ms", "torch.compile ms", "clof_ext ms", "x eager", "x compile")
HEADER = "| " + " | ".join((*COLUMNS, "peak MiB eager / clof_ext", "error")) + " |"


def section(document: dict, json_path: Path) -> str:
    """Markdown of a document: a line for each case and pass, the plot, and where the figures come from."""
    relative = json_path.resolve().relative_to(ROOT).as_posix()
    lines = [HEADER, "|" + " --- |" * (HEADER.count("|") - 1)]
    for case in document["cases"]:
        for name in dict.fromkeys(row["pass"] for row in case["measurements"]):
            lines.append(
                _line(case, name, {row["variant"]: row for row in case["measurements"] if row["pass"] == name})
            )
    return "\n".join(
        [
            *lines,
            "",
            f"{record.title(document)}; {report.sizes(document)}. Medians; figures from [`{relative}`]({relative}),",
            f"written by `{document['command']}`.",
            "",
            f"![Times and peak memory as shares of eager PyTorch]({Path(relative).with_suffix('.png').as_posix()})",
        ]
    )


def _line(case: dict, name: str, variants: dict[str, dict]) -> str:
    eager, fused, compiled = variants["eager"], variants["clof_ext"], variants.get("torch.compile")
    cells = [
        f"{case['network']}, {case['n_systems']} x {case['n_particles']} particles",
        name,
        f"{eager['median_ms']:.1f}",
        f"{compiled['median_ms']:.1f}" if compiled else "-",
        f"{fused['median_ms']:.1f}",
        f"**{fused['ratio_to_eager']:.1f}**",
        f"{fused['ratio_to_compile']:.1f}" if compiled else "-",
        f"{eager['peak_bytes'] / record.MIB:.1f} / {fused['peak_bytes'] / record.MIB:.1f}",
        f"{max(fused['errors'].values()):.0e}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(path: Path) -> None:
    replace_between(README, BEGIN, END, section(record.read(path), path))
    print(f"{README} shows {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
