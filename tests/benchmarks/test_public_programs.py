"""Running public programs with replaced layers, on checkouts that hold look-alikes."""

import sys
from pathlib import Path

import pytest

from benchmarks import public_programs

CLOFNET = "from clof_ext.bench.published import ClofNet, ClofNet_vel, ClofNet_vel_gbf\n"
# One whose layers notice that replaced ones do not write into their positions.
WRITING = """
from clof_ext.bench import published
from clof_ext.bench.published import ClofNet, ClofNet_vel_gbf

class ClofNet_vel(published.ClofNet_vel):
    def forward(self, h, x, edges, vel, edge_attr, node_attr=None, n_nodes=5):
        moving = x * 1
        self.gcl_0(self.embedding_node(h), edges, moving, vel, self.edge_features(edges, x, vel, edge_attr))
        return moving
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder with the modules of ClofNet's program; what is imported of it is forgotten."""
    (tmp_path / "newtonian").mkdir()
    (tmp_path / "newtonian/clof.py").write_text(CLOFNET)
    (tmp_path / "newtonian/egnn.py").write_text("from clof_ext.bench.published import EGNN_vel\n")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "newtonian":
            del sys.modules[name]


def test_a_program_that_agrees(checkout, capsys):
    assert public_programs.main([str(checkout)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["replaced", "left", "float64", "float32"]
    assert [line.split()[0].rstrip(",") for line in lines] == [
        *["ClofNet_vel"] * 3,
        "ClofNet",
        "ClofNet_vel_gbf",
        "EGNN_vel",
    ]


def test_a_program_that_does_not(checkout, capsys):
    (checkout / "newtonian/clof.py").write_text(WRITING)
    assert public_programs.main([str(checkout)]) == 1
    errors = capsys.readouterr().out.splitlines()[1].split()[-4:]
    assert float(errors[0]) > 1e-3


def test_diffusion_cases_hold_masks_and_none():
    from tests.lookalikes import diffsbdd

    variants = {"means": public_programs.EDM_VARIANTS["means"]}

    def network(in_node_nf: int, in_edge_nf: int, hidden_nf: int, **options):
        return diffsbdd.EGNN(in_node_nf, hidden_nf, **options)

    cases = public_programs.of_diffusion(network, movable="update_coords_mask", variants=variants)
    masked, plain = [(case, public_programs.run(case)) for case in cases]
    assert {"node_mask", "edge_mask", "update_coords_mask"} <= set(masked[0].inputs)
    assert not {name for name in plain[0].inputs if "mask" in name}
    assert masked[1].agrees and plain[1].agrees


def test_a_folder_of_something_else(tmp_path, capsys):
    with pytest.raises(SystemExit):
        public_programs.main([str(tmp_path)])
    assert (
        "is no checkout of a known program: it has none of equivariant_diffusion/egnn_new.py" in capsys.readouterr().err
    )
