"""The format against the reference implementation where it is installed, and its refusals."""

import json
import struct

import pytest

numpy = pytest.importorskip("numpy")
from slipway import read_safetensors, write_safetensors  # noqa: E402


def sample():
    return {
        "w": numpy.arange(12, dtype="float32").reshape(3, 4),
        "b": numpy.array([1, -2], dtype="int8"),
        "scalar": numpy.array(2.5),
        "empty": numpy.zeros((0, 3), dtype="uint16"),
        "flag": numpy.array([True, False]),
    }


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, sample(), {"note": "x"})
    back = read_safetensors(path)
    assert back.metadata == {"note": "x"}
    assert set(back) == set(sample())
    for name, array in sample().items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert (back[name] == array).all()
        assert not back[name].flags.writeable


def test_the_reference_reads_it(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    write_safetensors(path, sample())
    for name, array in reference.load_file(path).items():
        assert (array == sample()[name]).all()
    reference.save_file(sample(), tmp_path / "b.safetensors")
    for name in sample():
        assert (read_safetensors(tmp_path / "b.safetensors")[name] == sample()[name]).all()


def test_same_content_same_bytes(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    write_safetensors(first, sample())
    write_safetensors(second, dict(reversed(list(sample().items()))))
    assert first.read_bytes() == second.read_bytes()


def test_tensors_are_aligned(tmp_path):
    path = tmp_path / "a"
    write_safetensors(path, sample())
    back = read_safetensors(path)
    for name in back:
        assert back[name].ctypes.data % back[name].itemsize == 0


@pytest.mark.parametrize(
    "header, data, what",
    [
        (b"{}", b"", None),
        (json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode(), b"1234", "8 bytes"),
        (json.dumps({"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}}).encode(), b"1234", "offsets"),
        (json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(), b"", "inside the file"),
        (json.dumps({"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}).encode(), b"1234", "not known"),
    ],
)
def test_refuses_what_is_wrong(tmp_path, header, data, what):
    path = tmp_path / "a"
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    if what is None:
        assert list(read_safetensors(path)) == []
    else:
        with pytest.raises(ValueError, match=what):
            read_safetensors(path)


def test_refuses_a_header_that_claims_too_much(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(struct.pack("<Q", 10**10) + b"{}")
    with pytest.raises(ValueError, match="claims 10000000000 bytes of 10"):
        read_safetensors(path)
