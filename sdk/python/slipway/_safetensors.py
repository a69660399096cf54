"""The safetensors format: u64 little-endian header length, JSON header, raw row-major tensors.

Source of the format: https://github.com/huggingface/safetensors (README, "Format"). Reading maps the
file; a tensor is a view into the mapping and costs no copy, so all readers share one copy in memory.
"""

import json
import mmap
import os
import struct
import sys

try:
    import numpy
except ImportError:  # everything but arithmetic works without it
    numpy = None

# dtype name -> (bytes an element, struct/memoryview format or None, numpy name or None)
_DTYPES = {
    "BOOL": (1, "?", "bool"),
    "U8": (1, "B", "uint8"),
    "I8": (1, "b", "int8"),
    "U16": (2, "H", "uint16"),
    "I16": (2, "h", "int16"),
    "F16": (2, "e", "float16"),
    "BF16": (2, "H", "uint16"),  # numpy has none: the raw bits
    "U32": (4, "I", "uint32"),
    "I32": (4, "i", "int32"),
    "F32": (4, "f", "float32"),
    "U64": (8, "Q", "uint64"),
    "I64": (8, "q", "int64"),
    "F64": (8, "d", "float64"),
}
_BY_NUMPY = {row[2]: name for name, row in _DTYPES.items() if name != "BF16"}
_MAX_HEADER = 100 * 1024 * 1024
_ALIGNMENT = 64


class TensorFile:
    """A mapped safetensors file: `file["name"]` is a tensor, `file.metadata` the str -> str map."""

    def __init__(self, path):
        self.path = os.fspath(path)
        with open(self.path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size < 8:
                raise ValueError(f"{self.path}: {size} bytes are too few for a safetensors file")
            self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack_from("<Q", self._map, 0)
        if length > _MAX_HEADER or 8 + length > size:
            raise ValueError(f"{self.path}: the header claims {length} bytes of {size}")
        header = json.loads(self._map[8 : 8 + length])
        self.metadata = header.pop("__metadata__", {})
        self._start = 8 + length
        self._tensors = header
        for name, row in header.items():
            self._check(name, row, size)

    def _check(self, name, row, size):
        begin, end = row["data_offsets"]
        count = 1
        for extent in row["shape"]:
            count *= extent
        if row["dtype"] not in _DTYPES:
            raise ValueError(f"{self.path}: tensor {name} has dtype {row['dtype']}, which is not known")
        want = count * _DTYPES[row["dtype"]][0]
        if not 0 <= begin <= end or end - begin != want or self._start + end > size:
            raise ValueError(
                f"{self.path}: tensor {name} has offsets {begin}..{end}; {want} bytes inside the file are right"
            )

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self):
        return len(self._tensors)

    def __contains__(self, name):
        return name in self._tensors

    def keys(self):
        return self._tensors.keys()

    def shape(self, name):
        return tuple(self._tensors[name]["shape"])

    def dtype(self, name):
        return self._tensors[name]["dtype"]

    def __getitem__(self, name):
        """The tensor, read-only and without a copy: a numpy array, or a memoryview without numpy."""
        try:
            row = self._tensors[name]
        except KeyError:
            raise KeyError(f"{self.path} has no tensor {name!r}; it has: {', '.join(self._tensors)}") from None
        size, code, numpy_name = _DTYPES[row["dtype"]]
        begin, end = row["data_offsets"]
        shape = row["shape"]
        if numpy is not None:
            count = (end - begin) // size
            flat = numpy.frombuffer(self._map, dtype=numpy_name, count=count, offset=self._start + begin)
            return flat.reshape(shape)
        raw = memoryview(self._map)[self._start + begin : self._start + end]
        return raw.cast(code, shape) if shape and end > begin else raw.cast(code)


def read_safetensors(path):
    """Opens a safetensors file; see TensorFile."""
    return TensorFile(path)


def _as_bytes(name, tensor):
    """(dtype, shape, buffer) of a numpy array, a torch tensor, a memoryview or nested lists of floats."""
    if hasattr(tensor, "detach"):  # torch, without importing it
        tensor = tensor.detach().cpu().numpy()
    if numpy is not None:
        array = numpy.asarray(tensor)
        shape = list(array.shape)  # before ascontiguousarray, which makes a scalar one-dimensional
        array = numpy.ascontiguousarray(array)
        if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
            array = array.astype(array.dtype.newbyteorder("<"))
        if array.dtype.name not in _BY_NUMPY:
            raise TypeError(f"tensor {name}: dtype {array.dtype} has no place in safetensors")
        return _BY_NUMPY[array.dtype.name], shape, array.reshape(-1).view("uint8").data
    if isinstance(tensor, memoryview):
        for dtype, (_, code, _) in _DTYPES.items():
            if code == tensor.format:
                return dtype, list(tensor.shape), tensor.cast("B") if tensor.nbytes else b""
        raise TypeError(f"tensor {name}: a memoryview of format {tensor.format!r} has no place in safetensors")
    shape, flat = _flatten(tensor)
    return "F64", shape, struct.pack(f"<{len(flat)}d", *flat)


def _flatten(value):
    if not isinstance(value, (list, tuple)):
        return [], [float(value)]
    parts = [_flatten(item) for item in value]
    if any(part[0] != parts[0][0] for part in parts):
        raise ValueError("nested lists must be rectangular")
    return [len(value)] + (parts[0][0] if parts else []), [x for part in parts for x in part[1]]


def write_safetensors(path, tensors, metadata=None):
    """Writes {name: tensor} so that the same content always gives the same bytes: sorted by name, each
    tensor aligned to its element size. Not atomic: write beside the target and rename."""
    header, buffers, offset = {}, [], 0
    if metadata:
        header["__metadata__"] = {str(k): str(v) for k, v in sorted(metadata.items())}
    # Larger elements first keeps every tensor aligned without holes, which the format forbids.
    rows = [(name, *_as_bytes(name, tensor)) for name, tensor in tensors.items()]
    rows.sort(key=lambda row: (-_DTYPES[row[1]][0], row[0]))
    for name, dtype, shape, buffer in rows:
        size = len(buffer)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        buffers.append(buffer)
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for buffer in buffers:
            f.write(buffer)
        f.flush()
        os.fsync(f.fileno())
