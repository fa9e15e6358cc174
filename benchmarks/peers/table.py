"""The table of a run, as text and as Markdown, and who is faster than clof_ext."""

from collections.abc import Iterator

from clof_ext.bench import record
from clof_ext.bench.variants import FUSED

from .measure import PEERS

HEADERS = ("layer and batch", "pass", "program", "ms", "quartiles", "beside clof_ext", "error", "start s")
OTHER_FORMULAS = "other formulas"


def text(document: dict) -> list[str]:
    """All measurements in columns."""
    return [record.title(document), *record.aligned([HEADERS, *rows(document)]), "", *summary(document)]


def markdown(document: dict) -> list[str]:
    """Lines of a table with a row for each layer, batch, pass and program, and of the summary under it."""
    lines = [HEADERS, ("---",) * len(HEADERS), *rows(document)]
    return [*("| " + " | ".join(line) + " |" for line in lines), "", *summary(document), "", versions(document)]


def versions(document: dict) -> str:
    """Of the peers' packages."""
    found = {package: document["versions"][package] for peer in PEERS.values() for package in peer.packages}
    return f"Peers: {', '.join(f'{package} {version}' for package, version in found.items() if version)}."


def rows(document: dict) -> Iterator[tuple[str, ...]]:
    for case in document["cases"]:
        for row in case["measurements"]:
            yield (
                case_name(case),
                row["pass"],
                row["variant"],
                f"{row['median_ms']:.3g}",
                f"{row['lower_ms']:.3g} to {row['upper_ms']:.3g}",
                beside(row, ours(case, row["pass"])),
                OTHER_FORMULAS if row["error"] is None else f"{row['error']:.0e}",
                f"{sum(row['start_s'].values()):.2g}",
            )


def case_name(case: dict) -> str:
    particles = case["neighbours"] + 1
    return f"{case['network']}, {case['nodes'] // particles} x {particles}"


def ours(case: dict, key: str) -> dict | None:
    """clof_ext's measurement of a pass."""
    return next((row for row in case["measurements"] if (row["variant"], row["pass"]) == (FUSED, key)), None)


def beside(row: dict, fused: dict | None) -> str:
    """Who is faster, and how many times."""
    if fused is None or row is fused:
        return ""
    if row["lower_ms"] <= fused["upper_ms"] and fused["lower_ms"] <= row["upper_ms"]:
        return "alike: quartiles overlap"
    ratio = row["median_ms"] / fused["median_ms"]
    return f"{ratio:.3g} x slower" if ratio > 1 else f"**{1 / ratio:.3g} x faster**"


def summary(document: dict) -> list[str]:
    """Where clof_ext is not the fastest, and who was left out."""
    lost, sentences = [], []
    for case in document["cases"]:
        for row in case["measurements"]:
            words = beside(row, ours(case, row["pass"]))
            if "slower" not in words and words:
                lost.append(f"- {row['variant']}, {case_name(case)}, {row['pass']}: {words.strip('*')}")
        sentences += case["left_out"].values()
    busy = ["Times are the processor's, because the machine was busy.", ""] if document["settings"]["busy"] else []
    heading = "Not slower than clof_ext:" if lost else "Not slower than clof_ext: nobody."
    notes = [f"- {sentence}" for sentence in dict.fromkeys(sentences)]
    return [*busy, heading, *lost, *(["", "Not measured:", *notes] if notes else [])]
