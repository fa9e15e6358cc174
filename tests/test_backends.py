"""The table of backends, forcing one, installations without the binary, the reports and the command line."""

import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import clof_ext
from clof_ext import _backends, _binary, cli, ops, reference
from tests.compiler import COMPILER

needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
POS = torch.randn(4, 3, dtype=torch.float64)
EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)


@needs_binary
def test_the_table_prefers_the_compiled_kernels():
    for op in _backends.OPERATORS:
        # Of add_layer_norm there are kernels for GPUs alone.
        assert _backends.choose(op, "cpu") == ("reference" if op == "add_layer_norm" else "cpu")


def test_an_unknown_kind_of_device_gets_the_reference():
    assert _backends.choose("edge_frame", "meta") == "reference"
    assert ops.edge_frame(POS.to("meta"), EDGES.to("meta")).shape == (3, 3, 3)


@needs_binary
def test_forcing_a_backend_nests_and_ends():
    called = []

    def spy(*arguments):
        called.append("reference")
        return _backends.reference.edge_frame(*arguments)

    original = _backends._function
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_backends, "_function", lambda name, op: spy if name == "reference" else original(name, op))
        with clof_ext.backend("reference"):
            ops.edge_frame(POS, EDGES)
            with clof_ext.backend("cpu"):
                ops.edge_frame(POS, EDGES)
            ops.edge_frame(POS, EDGES, backend="cpu")
            assert called == ["reference"]
        ops.edge_frame(POS, EDGES)
        ops.edge_frame(POS, EDGES, backend="reference")
    assert called == ["reference"] * 2


def test_a_missing_binary_gives_one_warning_and_the_reference():
    run = run_python("""
        import pathlib, torch
        pathlib.Path.exists = lambda path: path.suffix != ".so"
        import clof_ext
        x = torch.randn(4, 3)
        clof_ext.ops.edge_frame(x, torch.tensor([[0, 1], [1, 2]]))
        clof_ext.ops.edge_scalars(x, torch.tensor([[0, 1], [1, 2]]))
        clof_ext.show_config()
    """)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("RuntimeWarning: clof_ext runs without its compiled extension") == 1
    assert "compiled extension: none" in run.stdout
    assert "edge_frame      reference cpu: the compiled extension is missing" in run.stdout


@needs_binary
def test_a_binary_of_another_version_is_refused():
    run = run_python("""
        import clof_ext._version
        clof_ext._version.__version__ = "9.9.9"
        import importlib, sys
        for name in [name for name in sys.modules if name.startswith("clof_ext") and name != "clof_ext._version"]:
            del sys.modules[name]
        from clof_ext import _backends
    """)
    # Operators register once a process, so the second import must not define them again.
    assert f"it is of version {clof_ext.__version__}, this package of version 9.9.9" in run.stderr, run.stderr


def test_an_older_torch_is_refused_before_the_binary_is_loaded(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.1+cu130")
    monkeypatch.setattr(_binary, "_loaded", None)
    with pytest.raises(ImportError, match=rf"needs torch >= {_binary.MIN_TORCH}; this is torch 2\.10\.1\+cu130"):
        _binary.load()


def changed_binary(folder: Path, old: bytes, new: bytes) -> Path:
    path = folder / _binary.PATH.name
    content = _binary.PATH.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@needs_binary
def test_a_binary_for_a_newer_torch_is_refused(tmp_path):
    """It calls functions that this torch does not have."""
    path = changed_binary(tmp_path, b"\0torch_parallel_for\0", b"\0torch_parallel_fox\0")
    with pytest.raises(ImportError, match="built for a newer torch than .*: undefined symbol: torch_parallel_fox"):
        _binary.load(path)


@needs_binary
def test_a_binary_for_another_processor_is_refused(tmp_path):
    path = tmp_path / _binary.PATH.name
    content = bytearray(_binary.PATH.read_bytes())
    ours, other = sorted(_binary.MACHINES, key=lambda name: name != platform.machine())
    content[_binary.MACHINE_FIELD] = _binary.MACHINES[other].to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(ImportError, match=f"is built for {other}; this machine is {ours}"):
        _binary.load(path)


def test_a_damaged_binary_is_refused(tmp_path):
    path = tmp_path / _binary.PATH.name
    path.write_bytes(b"no library")
    with pytest.raises(ImportError, match=r"libclof_ext\.so: "):
        _binary.load(path)


def test_a_library_without_a_version_is_refused(tmp_path):
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    path = tmp_path / _binary.PATH.name
    subprocess.run([COMPILER, "-shared", "-x", "c++", "/dev/null", "-o", path], check=True)
    with pytest.raises(ImportError, match="of version unknown, this package of version"):
        _binary.load(path)


@needs_binary
def test_a_module_for_another_python_is_refused(monkeypatch):
    monkeypatch.setattr(_binary, "MODULE", "clof_ext._C_of_another_python")
    with pytest.raises(ImportError, match=rf"is not built for Python {platform.python_version()}"):
        _binary.load()


def test_importing_loads_neither_triton_nor_optional_packages():
    run = run_python("""
        import sys, clof_ext
        loaded = {"torch._dynamo", "triton", "matplotlib", "safetensors", "rdkit", "torch_geometric"} & set(sys.modules)
        assert not loaded, loaded
    """)
    assert run.returncode == 0, run.stderr


@needs_binary
def test_selftest_agrees_and_says_so(capsys):
    assert clof_ext.selftest("cpu")
    out = capsys.readouterr().out
    assert "all agree with the reference" in out and "edge_scalars    ok" in out


def test_selftest_that_can_compare_nothing_says_so(monkeypatch, capsys):
    monkeypatch.setattr(_backends, "unavailable", lambda name, op: "it was taken away")
    assert not clof_ext.selftest("cpu")
    out = capsys.readouterr().out
    assert "left out: it was taken away" in out and "nothing could be compared" in out


@needs_binary
def test_selftest_leaves_out_what_a_backend_does_not_hold(monkeypatch, capsys):
    right = _backends._function

    def narrow(name, op):
        def function(*args):
            if args[0].dtype == torch.float64:
                raise _backends.DoesNotFitError("it computes in float32.")
            return right(name, op)(*args)

        return function if (name, op) == ("cpu", "edge_frame") else right(name, op)

    monkeypatch.setattr(_backends, "_function", narrow)
    assert clof_ext.selftest("cpu")
    line = next(line for line in capsys.readouterr().out.splitlines() if "edge_frame" in line)
    assert "ok" in line and "left out: it computes in float32." in line


@needs_binary
def test_selftest_finds_a_wrong_kernel(monkeypatch):
    right = _backends._function

    def wrong(name, op):
        function = right(name, op)
        return (lambda *a: function(*a) * 1.001) if (name, op) == ("cpu", "edge_frame") else function

    monkeypatch.setattr(_backends, "_function", wrong)
    assert not clof_ext.selftest("cpu", verbose=False)


def test_command_line(capsys):
    assert cli.main(["info"]) == 0
    assert "torch" in capsys.readouterr().out
    assert cli.main(["selftest", "--device", "cpu"]) == (0 if _backends.binary() else 1)
    if not torch.cuda.is_available():
        assert cli.main(["selftest", "--device", "cuda"]) == 2
        assert "needs a CUDA device" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([])
    capsys.readouterr()
    for device in ("foo", "meta"):
        with pytest.raises(SystemExit):
            cli.main(["selftest", "--device", device])
        assert f"argument --device: must be cpu or cuda; got '{device}'" in capsys.readouterr().err


def test_triton_kernels_that_are_too_small_give_way_to_the_reference(monkeypatch):
    """Said once, with the reason; a caller who forces them is refused."""
    room = _backends.triton_room()
    if room is None:
        pytest.skip("triton is not installed")
    monkeypatch.setattr(_backends, "_limits", {("triton", op): limit for op, limit in room.limits.items()})
    _backends._warn_of_reference.cache_clear()
    _backends._reason.cache_clear()
    run = torch.ops.clof_ext_triton.frame_message

    def fitting(hidden, dtype, name=None):
        return _backends.fitting("frame_message", run, name, _backends.Size(hidden, 0, dtype, True))

    fits = (128, torch.float32), (64, torch.bfloat16), (16, torch.float64)
    assert all(fitting(*size) is run for size in fits)
    with pytest.warns(RuntimeWarning, match="frame_message uses .* at most 128 hidden features of float32; got 288"):
        found = fitting(288, torch.float32)
    assert found is reference.frame_message
    with pytest.raises(RuntimeError, match="'triton' cannot run frame_message here: .* at most 16 .* of float64"):
        fitting(64, torch.float64, "triton")

    unequal = _backends.Size(16, 0, torch.float32, True, equal_widths=False)
    with pytest.warns(RuntimeWarning, match="frame_message uses .*: its Linears have unequal widths"):
        found = _backends.fitting("frame_message", run, None, unequal)
    assert found is reference.frame_message

    def compiled(x):
        return x * (fitting(288, torch.float32) is run)

    assert not torch.compile(compiled, fullgraph=True, backend="eager")(torch.ones(1))


def test_an_mlp_that_is_too_large_for_the_kernels_goes_to_the_reference_in_silence(monkeypatch, recwarn):
    """It is torch's own products there, which are not slow; a caller who forces the kernels is refused."""

    def limit(size):
        sys.getrefcount(size)  # which torch.compile cannot trace, no more than it can the binary
        return "the Linears have at most 64 results; got 96" if max(size.outputs) > 64 else None

    run = torch.ops.clof_ext.mlp
    monkeypatch.setattr(_backends, "_limits", {("cuda", "mlp"): limit})
    monkeypatch.setattr(_backends, "unavailable", lambda name, op: "not here" if name == "triton" else None)
    _backends._reason.cache_clear()
    _backends._on_gpus.cache_clear()

    def fitting(outputs, name=None):
        size = _backends.MlpSize((2, 14), outputs, torch.float32, True)
        return _backends.fitting("mlp", run, name, size)

    assert fitting((64, 1)) is run
    assert fitting((96, 1)) is reference.mlp
    assert not recwarn.list
    with pytest.raises(RuntimeError, match="'cuda' cannot run mlp here: the Linears have .*; got 96"):
        fitting((96, 1), "cuda")

    def compiled(x):
        return x * (fitting((96, x.shape[0])) is run)

    assert not torch.compile(compiled, fullgraph=True, backend="eager")(torch.ones(1))
    _backends._on_gpus.cache_clear()


@needs_binary
def test_the_binary_says_what_it_cannot_run_and_leaves_wrong_arguments_to_the_checks():
    module = _backends.binary()
    if module.build_info()["cuda"] is None:
        assert module.mlp_limit("float32", [3], [4], False) == "the extension was built without nvcc"
        assert module.add_layer_norm_limit("float32", "float32", "float32", 4) == "the extension was built without nvcc"
        return
    for dtype, inputs, outputs, backward, reason in (
        ("float64", [3], [4], False, "computes in float32"),
        ("float32", [3], [129], False, "at most 128 results"),
        ("bfloat16", [3], [65, 1], True, "backward pass have at most 64 results"),
        ("float32", [3], [0], False, "has a result"),
        ("float32", [10**12], [4], False, "more shared memory"),
    ):
        assert reason in module.mlp_limit(dtype, inputs, outputs, backward)
    assert module.mlp_limit("float64", [], [4], True) is None
    for x, h, weight, width, reason in (
        ("float64", "float64", "float64", 385, "at most 384 features"),
        ("bfloat16", "float32", "float32", 769, "at most 768 features"),
        ("float32", "bfloat16", "float32", 4, "one dtype, or x is half and weight float32"),
    ):
        assert reason in module.add_layer_norm_limit(x, h, weight, width)
    assert module.add_layer_norm_limit("float16", "float16", "float32", 768) is None
    assert module.mlp_limit("float64", [3], [4] * 5, True) is None


def test_edges_that_outlive_the_package_are_forgotten_in_silence():
    run = run_python("""
        import torch
        from clof_ext import prepare_graph
        torch.kept = torch.tensor([[0], [1]])
        prepare_graph(torch.kept, 2)
    """)
    assert run.returncode == 0 and "Exception ignored" not in run.stderr
