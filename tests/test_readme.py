"""The README's figures are those of the committed results, and its code runs."""

import json
import re

import torch

from benchmarks import readme
from clof_ext.bench import record

TEXT = readme.README.read_text()


def test_figures_are_those_of_the_committed_json():
    shown = TEXT.split(readme.BEGIN)[1].split(readme.END)[0].strip()
    path = readme.ROOT / re.search(r"\((benchmarks/results/[^)]+\.json)\)", shown).group(1)
    assert shown == readme.section(record.read(path), path)
    assert path.with_suffix(".png").exists()
    machine = json.loads(path.read_text())["machine"]
    assert machine["cpu"] in shown


def test_code_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 3
    pos, vel = torch.randn(6, 3), torch.randn(6, 3)
    edge_index = torch.tensor([[0, 0, 1, 2, 3, 4, 5], [1, 2, 0, 3, 4, 5, 0]])
    from clof_ext.bench.published import EGNN_vel

    model = EGNN_vel(1, 2, 8)
    batch = (torch.randn(6, 1), pos, [edge_index[0], edge_index[1]], vel, torch.randn(7, 2))
    names = {"model": model, "batch": batch, "pos": pos, "vel": vel, "edge_index": edge_index, "num_nodes": 6}
    names["tensor"] = torch.randn(6, 2, 3, 3)
    for block in blocks:
        exec(block.replace("range(7000)", "range(3)"), names)
    assert len(names["report"].replaced) == 4
    assert names["back"].shape == (6, 2, 3, 3)
    assert names["loc"].shape == (3, 49, 5, 3)
