"""The rules of the house, checked on the files themselves."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import clof_ext
from clof_ext import _backends

ROOT = Path(clof_ext.__file__).parent.parent
BIN = Path(sys.executable).parent

# A room may import from those after it and from the private modules; never from those before it.
ROOMS = ["cli", "bench", "conformation", "newton", "training", "replace", "models", "nn", "ops", "reference"]
# Packages that only the room that owns them may import.
OWNED = {
    "triton": "triton", "safetensors": "training", "matplotlib": "training", "rdkit": "conformation",
    "ase": "conformation", "tblite": "conformation", "posebusters": "conformation", "torch_geometric": "pyg",
    "vesin": "neighbors",
}  # fmt: skip
TOP_LEVEL = {
    ".ci", ".clang-format", ".github", ".gitignore", "CHANGELOG.md", "CMakeLists.txt", "CONTRIBUTING.md", "LICENSE",
    "MANIFEST.in", "Makefile", "README.md", "benchmarks", "clof_ext", "cmake", "csrc", "docs", "examples", "mkdocs.yml",
    "pyproject.toml", "results", "setup.py", "tests",
}  # fmt: skip
MAX_LINES = 500
DOCSTRING_SECTIONS = ("Args:", "Returns:", "Raises:")


def tracked(*patterns: str) -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    run = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in run.stdout.splitlines() if (ROOT / line).exists()]


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file of the package imports, its own package's in full, also those inside functions."""
    package = ["clof_ext", *path.relative_to(ROOT / "clof_ext").parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT / "clof_ext").parts[0]
    return first.removesuffix(".py")


def test_rooms_import_only_what_lies_below_them():
    for path in (ROOT / "clof_ext").rglob("*.py"):
        room = room_of(path)
        if room not in ROOMS:
            continue
        above = ROOMS[: ROOMS.index(room)]
        for name in imports_of(path):
            parts = name.split(".")
            assert not (parts[0] == "clof_ext" and len(parts) > 1 and parts[1] in above), f"{path} imports {name}"
            assert parts[0] not in ("tests", "benchmarks"), f"{path} imports {name}"


def test_optional_packages_stay_in_their_rooms():
    for path in (ROOT / "clof_ext").rglob("*.py"):
        for name in imports_of(path):
            owner = OWNED.get(name.split(".")[0])
            assert owner in (None, room_of(path)), f"{path} imports {name}"


def test_cpp_rooms_include_only_what_lies_below_them():
    forbidden = {
        "math": r"torch/|cuda_runtime|\.\./(cpu|cuda|ops|functor)/",
        "functor": r"torch/|cuda_runtime|\.\./(cpu|cuda|ops)/",
        "cpu": r"\.\./(\.\./)?(cuda|ops)/",
        "cuda": r"\.\./(\.\./)?(cpu|ops)/",
    }
    for room, pattern in forbidden.items():
        for path in (ROOT / "csrc" / room).rglob("*.*"):
            for line in re.findall(r'#include [<"]([^>"]+)', path.read_text()):
                assert not re.search(pattern, line), f"{path} includes {line}"


def test_kernels_keep_to_one_instruction_set():
    """Inline functions of the standard library would be merged across instruction sets by the linker."""
    for path in (ROOT / "csrc/cpu/kernels").glob("*.*"):
        for line in re.findall(r"#include <([^>]+)>", path.read_text()):
            assert line not in ("vector", "string", "map", "memory", "functional", "iostream"), f"{path}: {line}"


@pytest.mark.parametrize(
    "stem",
    ["edge_frame", "edge_scalars", "project", "aggregate", "segment", "edge_attention", "table_sum", "add_layer_norm"],
)
def test_an_op_has_its_file_in_every_python_room(stem: str):
    for room in ("ops", "reference"):
        assert (ROOT / "clof_ext" / room / f"{stem}.py").exists()


def public_functions():
    rooms = ("ops", "nn", "models", "newton", "conformation")
    for module in (*(f"clof_ext.{room}" for room in rooms), "clof_ext"):
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            if callable(value):
                yield pytest.param(value, id=f"{module}.{name}")


@pytest.mark.parametrize("function", list(public_functions()))
def test_public_names_are_documented(function):
    assert function.__doc__, "no docstring"
    assert len(function.__doc__) > 60


@pytest.mark.parametrize("name", clof_ext.ops.__all__)
def test_ops_say_shapes_results_and_errors(name: str):
    text = getattr(clof_ext.ops, name).__doc__
    if "are those of" not in text:
        assert all(section in text for section in DOCSTRING_SECTIONS)
        assert re.search(r"\((N|E|R|num_segments)[,)]", text), "no shapes"


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
def test_every_operator_has_a_fake_and_a_derivative():
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("clof_ext::")]
    assert len(names) > 10
    for name in names:
        qualified = name.split(".")[0]
        assert torch._library.simple_registry.singleton.find(qualified).fake_impl.kernel is not None, name
        if qualified.removeprefix("clof_ext::") not in ("prepare_graph", "newton_simulate", "cast_all", "mlp_into"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "Autograd"), name


def test_top_level_has_no_clutter():
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP_LEVEL


def test_files_stay_small():
    for path in tracked("*.py", "*.h", "*.cpp", "*.cu", "*.cuh"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path


def test_no_leftovers():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|print\(f?\"?debug", re.IGNORECASE)
    for path in tracked("*.py", "*.h", "*.cpp", "*.cu", "*.cuh", "*.cmake"):
        if path.name != Path(__file__).name:
            found = words.search(path.read_text())
            assert found is None, f"{path}: {found.group()}"


def test_nothing_is_unpickled():
    for path in (ROOT / "clof_ext").rglob("*.py"):
        text = path.read_text()
        assert "pickle.load" not in text, path
        assert "torch.load(" not in text or "weights_only=True" in text, path


def run_tool(name: str, *arguments: str) -> None:
    tool = shutil.which(name, path=f"{BIN}:/usr/bin:/usr/local/bin")
    if tool is None:
        pytest.skip(f"{name} is not installed")
    run = subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_python_is_linted_and_formatted():
    run_tool("ruff", "check", ".")
    run_tool("ruff", "format", "--check", ".")


def test_cpp_is_formatted():
    sources = [str(path) for path in tracked("*.h", "*.cpp", "*.cu", "*.cuh")]
    run_tool("clang-format", "--dry-run", "--Werror", *sources)


def test_the_version_is_one():
    declared = re.search(r"^## \[?(\d+\.\d+\.\d+|Unreleased)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert declared, "CHANGELOG.md names no version"
    assert re.fullmatch(r"\d+\.\d+\.\d+", clof_ext.__version__)
