"""Products of float32 numbers under torch.set_float32_matmul_precision, on AMX or software in its place."""

import pytest
import torch
from torch import Tensor

import clof_ext
from clof_ext import _backends
from clof_ext.bench.run import matmul_precision, threads
from tests.conformance import Graph, points, random_edges
from tests.ops.test_frame_message import (
    EMULATED,
    HALF_TOLERANCE,
    INSTRUCTION_SETS,
    LARGE,
    MODULE,
    OPTIONS,
    SIZES,
    Block,
    assert_agree,
    block,
    operators,
    relative_errors,
    selected,
)

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

# Three products of split numbers, in units of the largest value: some 2^-17 of every product, of which sums of few
# numbers average less; measured 2e-6 to 1.9e-5, 1.98e-5 with seven hidden features, and 2.4e-5 of values whose largest
# are cut.
HIGH_TOLERANCE = 2e-5
FEW = CUT = 1.5
# With all numbers rounded to bfloat16 where they enter a product; relative, of norms.
MEDIUM_TOLERANCE = HALF_TOLERANCE[torch.bfloat16]

with_tiles = [name for name in INSTRUCTION_SETS if "amx" in name] + EMULATED
needs_tiles = pytest.mark.skipif(not with_tiles, reason="needs a processor with AVX512-BF16")


@pytest.fixture(params=with_tiles)
def tiles(request):
    """An instruction set with AMX."""
    with selected(request.param) as name:
        yield name


def results(case: Block, precision: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    with matmul_precision(precision):
        return case.results(dtype)


def same_bits(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


@needs_tiles
@pytest.mark.parametrize("name", OPTIONS)
def test_high_is_close_to_float32(name: str, tiles: str):
    case = block(**OPTIONS[name])
    found, highest = results(case, "high"), results(case, "highest")
    assert not same_bits(found, highest)
    tolerance = HIGH_TOLERANCE * (CUT if "clamp" in OPTIONS[name] else 1)
    assert_agree(found, case.results(torch.float32, "reference"), tolerance)


@needs_tiles
@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), [*SIZES, (300, 4, 0), (16, 600, 40)])
def test_sizes(hidden: int, node_dim: int, edge_dim: int, tiles: str):
    """Partial registers, and more of the inner dimension than is taken at a time."""
    case = block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2)
    exact = case.results(torch.float32, "reference")
    assert_agree(results(case, "high"), exact, HIGH_TOLERANCE * (FEW if hidden < 16 else 1))
    medium = relative_errors(results(case, "medium"), exact)
    assert medium.nan_to_num().max() < MEDIUM_TOLERANCE


@needs_tiles
def test_large_weights_and_positions(tiles: str):
    """Squared lengths of very different sizes do not pass through products."""
    case = block(Graph(100 * points(40), random_edges(40, 300)), clamp=1.0)
    assert_agree(results(case, "high"), case.results(torch.float32, "reference"), HIGH_TOLERANCE)


@needs_tiles
@pytest.mark.parametrize("name", ["batch", "connected", "nodes without edges"])
def test_large_graphs_with_the_same_bits_for_every_number_of_threads(name: str, tiles: str):
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=20)
    found = []
    for count in (1, 2, 3, 2):
        with threads(count):
            found.append(results(case, "high"))
    assert_agree(found[0], case.results(torch.float32, "reference"), HIGH_TOLERANCE)
    assert all(same_bits(found[0], other) for other in found[1:])


@needs_tiles
def test_highest_does_not_round(tiles: str):
    """Nor does float64 or float16, whatever the setting."""
    case = block()
    found = [results(case, "highest"), results(case, "high", torch.float64), results(case, "medium", torch.float16)]
    with selected("avx512"):
        plain = [
            results(case, "highest"),
            results(case, "highest", torch.float64),
            results(case, "high", torch.float16),
        ]
    assert all(same_bits(one, two) for one, two in zip(found, plain, strict=True))


@needs_tiles
def test_amx_and_its_software_agree_in_every_bit():
    if "avx512_amx" not in INSTRUCTION_SETS:
        pytest.skip("needs a processor with AMX")
    case, found = block(), []
    for name in with_tiles:
        with selected(name):
            found.append(results(case, "high") + results(case, "highest", torch.bfloat16))
    assert same_bits(*found)


@pytest.mark.parametrize("name", [name for name in INSTRUCTION_SETS if "amx" not in name])
def test_high_is_float32_without_amx(name: str):
    case = block()
    with selected(name):
        assert same_bits(results(case, "high"), results(case, "highest"))


def test_medium_takes_what_multiplies_bfloat16():
    """On whatever this processor has."""
    case = block()
    found, highest = results(case, "medium"), results(case, "highest")
    assert same_bits(found, highest) == (MODULE.bfloat16_unit() == "none")
    exact = case.results(torch.float32, "reference")
    assert relative_errors(found, exact).max() < MEDIUM_TOLERANCE


@needs_tiles
def test_the_backward_pass_takes_the_precision_of_the_forward_pass(tiles: str):
    case = block()
    leaves = case.leaves(torch.float32)
    cotangents = [torch.ones(40, 33), torch.ones(40, 3)]
    with matmul_precision("high"):
        outputs = case.run(leaves)
        truth = torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True)
    found = torch.autograd.grad(outputs, leaves, cotangents)
    assert same_bits(list(found), list(truth))
    assert not same_bits(list(found), list(torch.autograd.grad(case.run(leaves), leaves, cotangents)))


@needs_tiles
def test_compiled_code_follows_the_setting(tiles: str):
    case = block(hidden=8)
    compiled = torch.compile(lambda *leaves: case.run(list(leaves), None), fullgraph=True, backend="aot_eager")
    leaves = case.leaves(torch.float32)
    for precision in ("highest", "high", "highest"):
        with matmul_precision(precision):
            assert same_bits(list(compiled(*leaves)), list(case.run(leaves)))


@needs_tiles
def test_the_switch_of_the_processor_alone(tiles: str):
    """Of torch's newer switches, those for CPUs count; others may differ."""
    case, switch = block(), torch.backends.mkldnn.matmul
    other = torch.backends.cuda.matmul
    before = switch.fp32_precision, other.fp32_precision
    try:
        other.fp32_precision, switch.fp32_precision = "tf32", "ieee"
        highest = case.results(torch.float32)
        switch.fp32_precision = "tf32"
        high = case.results(torch.float32)
    finally:
        switch.fp32_precision, other.fp32_precision = before
    assert same_bits(highest, results(case, "highest"))
    assert same_bits(high, results(case, "high"))


@needs_tiles
def test_autocast_rounds_on_tiles(tiles: str):
    case = block(hidden=16)
    leaves = case.leaves(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.run(leaves)
    narrow = [leaf if k == 1 else leaf.bfloat16() for k, leaf in enumerate(leaves)]
    assert same_bits(list(found), list(case.run(narrow)))
    with selected("avx512"):
        assert not same_bits(list(found), list(case.run(narrow)))


@pytest.mark.parametrize("name", INSTRUCTION_SETS + EMULATED)
def test_show_config_says_what_multiplies(name: str, capsys):
    words = {"none": "widened", "pairs": "in pairs", "tiles": "on AMX tiles", "emulated tiles": "software"}
    with selected(name):
        clof_ext.show_config()
        assert ("amx" in name) == ("tiles" in MODULE.bfloat16_unit())
        assert words[MODULE.bfloat16_unit()] in capsys.readouterr().out


def test_a_wrong_precision_is_named():
    arguments, _ = operators()
    with pytest.raises(RuntimeError, match="precision must be one of 'highest', 'high', 'medium'; got 'low'"):
        torch.ops.clof_ext.frame_message(*arguments, "low")
