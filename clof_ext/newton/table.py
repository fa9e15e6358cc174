"""Write the tables of docs/newton.md from committed reports: ``python -m clof_ext.newton.table``."""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ..training import replace_file
from .recipe import Recipe
from .settings import setting

# Test errors that Du et al., ICML 2022, publish.
PAPER = {
    ("es5", "clofnet"): 0.0065, ("es5", "egnn"): 0.0079, ("es5", "gnn"): 0.0131, ("es5", "radial-field"): 0.0207,
    ("es20", "clofnet"): 0.0073, ("es20", "egnn"): 0.0128,
    ("g+es20", "clofnet"): 0.0072, ("g+es20", "egnn"): 0.0118,
    ("l+es20", "clofnet"): 0.0251, ("l+es20", "egnn"): 0.0368,
}  # fmt: skip
# What the tables show in columns of their own.
SHOWN = ("network", "epochs", "seed")
TEST_COLUMNS = (
    "setting", "network", "recipe", "epochs (best)", "seeds", "validation", "test MSE", "95 % interval", "median",
    "paper", "minutes",
)  # fmt: skip
ABLATION_COLUMNS = (
    "setting",
    "network",
    "recipe",
    "seed",
    "epochs (best)",
    "validation MSE",
    "95 % interval",
    "median",
    "minutes",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/newton"), help="folder of the reports")
    parser.add_argument("--page", type=Path, default=Path("docs/newton.md"), help="the page to write into")
    options = parser.parse_args()
    text = page_with_tables(options.page.read_text(), read_reports(options.results))
    replace_file(options.page, lambda beside: beside.write_text(text))


def read_reports(folder: Path) -> list[dict]:
    """All reports of a folder, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def page_with_tables(page: str, reports: list[dict]) -> str:
    """The page with the text between its markers replaced."""
    for split, table in (("test", results_table), ("valid", ablation_table)):
        chosen = [report for report in reports if report["split"] == split]
        begin, end = f"<!-- {split}: made by python -m clof_ext.newton.table -->\n", f"<!-- /{split} -->"
        head, rest = page.split(begin)
        page = head + begin + table(chosen) + rest[rest.index(end) :]
    return page


def results_table(reports: list[dict]) -> str:
    """Errors on test sets; a line for each recipe, its seeds together."""
    groups = defaultdict(list)
    for report in reports:
        groups[_key(report)].append(report)
    return _markdown(TEST_COLUMNS, [_test_row(key, group) for key, group in sorted(groups.items())])


def ablation_table(reports: list[dict]) -> str:
    """Errors on validation sets, best first; a line for each training."""
    rows = []
    for report in sorted(reports, key=lambda report: report["errors"]["mean"]):
        name, network, recipe, _ = _key(report)
        errors = report["errors"]
        epochs = f"{_epochs(report)} ({report['epoch']})"
        figures = (f"{errors['mean']:.5f}", _interval(errors), f"{errors['median']:.5f}", _minutes([report]))
        rows.append((name, network, recipe, str(report["recipe"]["seed"]), epochs, *figures))
    return _markdown(ABLATION_COLUMNS, rows)


def _key(report: dict) -> tuple[str, str, str, int]:
    recipe = report["recipe"]
    return report["set"]["setting"], recipe["network"], differences(recipe), recipe["epochs"]


def differences(recipe: dict) -> str:
    """What a recipe has that the published one does not."""
    changed = {k: v for k, v in asdict(Recipe()).items() if k not in SHOWN and recipe.get(k, v) != v}
    return ", ".join(f"{name} {recipe[name]}" for name in changed).replace("_", " ").replace(" True", "") or "published"


def _test_row(key: tuple[str, str, str, int], group: list[dict]) -> tuple[str, ...]:
    name, network, recipe, _ = key
    means = [report["errors"]["mean"] for report in group]
    epochs_text = ", ".join(sorted({_epochs(report) for report in group}))
    best = "/".join(str(report["epoch"]) for report in group)
    intervals = ", ".join(_interval(report["errors"]) for report in group)
    paper = PAPER.get((name, network)) if epochs_text == str(setting(name).epochs) else None
    return (
        *(name, network, recipe, f"{epochs_text} ({best})", str(len(group))),
        _spread([report["valid_loss"] for report in group]),
        _spread(means),
        intervals,
        _spread([report["errors"]["median"] for report in group]),
        "" if paper is None else f"{paper:.4f}",
        _minutes(group),
    )


def _epochs(report: dict) -> str:
    """Number of epochs, and before it the number of those that were trained where it is smaller."""
    trained, planned = report["history"][-1][0], report["recipe"]["epochs"]
    return str(planned) if trained == planned else f"{trained} of {planned}"


def _spread(values: list[float]) -> str:
    """Mean, and standard deviation of two or more."""
    deviation = f" ± {statistics.stdev(values):.5f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.5f}{deviation}"


def _interval(errors: dict) -> str:
    return f"{errors['low']:.5f} to {errors['high']:.5f}"


def _minutes(group: list[dict]) -> str:
    return f"{statistics.mean(report['training_seconds'] for report in group) / 60:.0f}"


def _markdown(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
