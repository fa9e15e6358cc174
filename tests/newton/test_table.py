"""The tables of results, and that the page shows the committed ones."""

from pathlib import Path

import pytest

import clof_ext
from clof_ext.newton import Recipe
from clof_ext.newton.table import ablation_table, differences, page_with_tables, read_reports, results_table

ROOT = Path(clof_ext.__file__).parent.parent


def report(seed, mean, split="test", trained=None, **recipe):
    recipe = {**Recipe().describe(), "seed": seed, **recipe}
    return {
        "split": split,
        "set": {"setting": "es5"},
        "recipe": recipe,
        "history": [[trained or recipe["epochs"], 0.001, 0.006]],
        "epoch": 250 + seed,
        "valid_loss": mean / 2,
        "errors": {"mean": mean, "low": mean - 0.001, "high": mean + 0.001, "median": 0.0002},
        "training_seconds": 600.0,
    }


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_seeds_stand_together():
    table = cells(results_table([report(0, 0.006), report(1, 0.008), report(0, 0.005, mirror=True)]))
    assert len(table) == 4
    mirrored, plain = table[2:]
    assert mirrored[:3] == ["es5", "clofnet", "mirror"] and plain[:3] == ["es5", "clofnet", "published"]
    assert plain[3:7] == ["400 (250/251)", "2", "0.00350 ± 0.00071", "0.00700 ± 0.00141"]
    assert plain[-2:] == ["0.0065", "10"]


def test_a_figure_of_the_paper_stands_beside_its_number_of_epochs_only():
    assert cells(results_table([report(0, 0.006, epochs=20)]))[2][-2] == ""


def test_an_unfinished_training_says_so():
    row = cells(results_table([report(0, 0.006, trained=260)]))[2]
    assert row[3] == "260 of 400 (250)" and row[-2] == ""


def test_ablations_stand_best_first():
    reports = [report(0, 0.006, "valid"), report(0, 0.005, "valid", mirror=True, average_decay=0.99)]
    table = cells(ablation_table(reports))
    assert [row[2] for row in table[2:]] == ["average decay 0.99, mirror", "published"]


@pytest.mark.parametrize(
    ("recipe", "text"),
    [({}, "published"), ({"seed": 3, "epochs": 7}, "published"), ({"attention": True}, "attention"),
     ({"schedule": "cosine", "clip_norm": 1.0}, "schedule cosine, clip norm 1.0")],
)  # fmt: skip
def test_differences_from_the_published_recipe(recipe, text):
    assert differences({**Recipe().describe(), **recipe}) == text


def test_the_page_shows_the_committed_results():
    page = (ROOT / "docs" / "newton.md").read_text()
    reports = read_reports(ROOT / "results" / "newton")
    assert reports
    assert page == page_with_tables(page, reports)
