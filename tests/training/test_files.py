"""Files: what comes back, what is refused, and what survives a kill."""

import os

import pytest
import torch

from clof_ext.training import FileError, load, replace_file, save

VALUE = {
    "weights": {"a.b": torch.randn(3, 2), "scalar": torch.tensor(2.5, dtype=torch.float64)},
    "state": {0: {"step": torch.tensor(3)}, 1: {}},
    "lists": [1, 2.5, None, True, "text", [torch.arange(4, dtype=torch.int32)], float("inf")],
    "half": torch.randn(5).bfloat16(),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert type(a) is type(b) and a == b


@pytest.mark.parametrize("compress", [False, True])
def test_everything_comes_back(tmp_path, compress):
    save(tmp_path / "folder" / "file", VALUE, "thing", compress=compress)
    assert_same(VALUE, load(tmp_path / "folder" / "file", "thing"))
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_compression_is_smaller(tmp_path):
    path = torch.randn(2000, 3).cumsum(0)
    save(tmp_path / "plain", path, "path")
    save(tmp_path / "small", path, "path", compress=True)
    assert (tmp_path / "small").stat().st_size < 0.9 * (tmp_path / "plain").stat().st_size


def test_tensors_that_share_memory_or_have_gaps(tmp_path):
    tensor = torch.randn(4, 6)
    save(tmp_path / "file", {"a": tensor, "b": tensor[1], "c": tensor.T[::2]}, "views")
    assert_same({"a": tensor, "b": tensor[1], "c": tensor.T[::2]}, load(tmp_path / "file", "views"))


def test_other_readers_see_the_tensors_by_name(tmp_path):
    from safetensors.torch import load_file

    save(tmp_path / "file", VALUE, "thing")
    assert torch.equal(load_file(tmp_path / "file")["weights/a.b"], VALUE["weights"]["a.b"])


def written(tmp_path):
    path = tmp_path / "data.safetensors"
    save(path, VALUE, "thing")
    return path


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_file_gets_a_sentence(tmp_path, length):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FileError, match="data.safetensors is truncated, damaged, or no safetensors file"):
        load(path, "thing")


def test_a_foreign_file_gets_a_sentence(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "data.safetensors"
    with pytest.raises(FileError, match="data.safetensors does not exist"):
        load(path, "thing")
    path.write_text("epoch,loss\n" * 100)
    with pytest.raises(FileError, match="data.safetensors is truncated, damaged, or no safetensors file"):
        load(path, "thing")
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(FileError, match="data.safetensors was not written by clof_ext; expected its thing"):
        load(path, "thing")


def test_one_wrong_bit_is_found(tmp_path):
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="data.safetensors is damaged: its checksum does not match"):
        load(path, "thing")


def test_kind_and_version_are_compared(tmp_path, monkeypatch):
    path = written(tmp_path)
    with pytest.raises(FileError, match="data.safetensors holds a thing; expected a cat"):
        load(path, "cat")
    monkeypatch.setattr("clof_ext.training.files.VERSION", "2")
    with pytest.raises(FileError, match="data.safetensors has format version 1; this clof_ext reads version 2"):
        load(path, "thing")


@pytest.mark.parametrize(
    ("value", "message"),
    [({"x": [object()]}, "plain value; got object in 'x/0'"), ({1.5: 2}, "must be a string or an integer; got 1.5")],
)
def test_other_values_are_refused(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "file", value, "thing")
    assert not any(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = written(tmp_path)

    def fail(beside):
        beside.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, fail)
    assert_same(VALUE, load(path, "thing"))
    assert os.listdir(tmp_path) == [path.name]
