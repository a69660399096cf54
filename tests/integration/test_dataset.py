"""Datasets: what an import makes of real files, held against numpy and scikit-learn; versions, lineage, removal;
files that are malformed."""

import gzip
import io
import json
import pathlib
import struct
import subprocess
import zipfile

import numpy as np
import pytest

DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


def load(path):
    """Tensors and schema of a safetensors file, without our own reader."""
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    schema = json.loads(header.pop("__metadata__", {}).get("schema", "null"))
    tensors = {}
    for name, tensor in header.items():
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        tensors[name] = np.frombuffer(content[begin:end], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    return tensors, schema


@pytest.fixture
def convert(cli, tmp_path):
    """convert(content or path, *options): tensors and schema that an import makes."""

    def run(*sources, name="data", options=()):
        paths = []
        for number, source in enumerate(sources):
            if not isinstance(source, pathlib.Path):
                path = tmp_path / (name if number == 0 else f"{name}{number}")
                path.write_bytes(source if isinstance(source, bytes) else source.encode())
                source = path
            paths.append(source)
        out = tmp_path / "out.safetensors"
        cli("dataset", "convert", *paths, "--output", out, *options)
        return load(out)

    return run


def write_csv(array, header=None, fmt="%.17g"):
    out = io.StringIO()
    np.savetxt(out, array, delimiter=",", fmt=fmt, header=header or "", comments="")
    return out.getvalue()


def test_numbers_are_exact(convert):
    rng = np.random.default_rng(0)
    array = rng.standard_normal((3000, 7)) * 10.0 ** rng.integers(-300, 300, (3000, 7))
    tensors, schema = convert(write_csv(array, "a,b,c,d,e,f,g"))
    assert tensors["x"].dtype == np.float64
    assert (tensors["x"] == array).all()
    assert [column["name"] for column in schema["columns"]] == list("abcdefg")


@pytest.mark.parametrize(
    "low, high, dtype",
    [(0, 255, "u1"), (-1, 100, "i1"), (0, 256, "u2"), (-1, 200, "i2"), (0, 70000, "u4"), (-1, 70000, "i4"), (0, 2**40, "i8")],
)
def test_smallest_dtype(convert, low, high, dtype):
    tensors, _ = convert(f"a,b\n{low},1\n{high},2\n")
    assert tensors["x"].dtype == np.dtype(dtype)
    assert tensors["x"].tolist() == [[low, 1], [high, 2]]


def test_statistics(convert):
    array = np.random.default_rng(1).standard_normal((10000, 3)) * 7 + 3
    array[17, 1] = np.nan
    _, schema = convert(write_csv(array, "a,b,c"))
    for number, column in enumerate(schema["columns"]):
        values = array[:, number][~np.isnan(array[:, number])]
        assert column["count"] == len(values) and column["missing"] == 10000 - len(values)
        assert column["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert column["std"] == pytest.approx(values.std(), rel=1e-12)
        assert (column["min"], column["max"]) == (values.min(), values.max())
        assert sum(column["histogram"]) == len(values)


def test_split_is_exact_and_reproducible(convert):
    rows = "".join(f"{i},{i % 3}\n" for i in range(1000))
    options = ("--label", "y", "--split", "train=0.7,valid=0.1,test=0.2", "--seed", "5")
    first, schema = convert("x,y\n" + rows, options=options)
    again, _ = convert("x,y\n" + rows, options=options)
    other, _ = convert("x,y\n" + rows, options=(*options[:-1], "6"))
    assert [(part["name"], part["rows"]) for part in schema["splits"]] == [("train", 700), ("valid", 100), ("test", 200)]
    assert sorted(np.concatenate([first[f"{p}/x"][:, 0] for p in ("train", "valid", "test")])) == list(range(1000))
    assert all((first[f"{p}/x"][:, 0] % 3 == first[f"{p}/y"]).all() for p in ("train", "valid", "test"))
    assert all((first[name] == again[name]).all() for name in first)
    assert not (first["train/x"] == other["train/x"]).all()
    stratified, _ = convert("x,y\n" + rows, options=(*options, "--stratify"))
    counts = np.bincount(stratified["test/y"])
    assert counts.min() >= 66 and counts.max() <= 67


def test_categories_and_missing(convert):
    text = "colour,size,label\nred,1,yes\n,2,no\nblue,NA,yes\nred,4,no\n"
    tensors, schema = convert(text, options=("--label", "label"))
    assert tensors["x.colour"].tolist() == [1, -1, 0, 1]
    assert np.array_equal(tensors["x"][:, 0], [1, 2, np.nan, 4], equal_nan=True)
    assert tensors["y"].tolist() == [1, 0, 1, 0]
    columns = {column["name"]: column for column in schema["columns"]}
    assert [c["value"] for c in columns["label"]["categories"]] == ["no", "yes"]


def test_a_column_that_breaks_late(convert):
    text = "a,b\n" + "".join(f"{i},{i * 0.5}\n" for i in range(30000)) + "oops,1\n"
    tensors, schema = convert(text)
    assert "x.a" in tensors and tensors["x.a"].shape == (30001,)
    assert any("'oops' in line 30002" in note for note in schema["notes"])
    tensors, _ = convert(text, options=("--missing", "oops"))
    assert np.isnan(tensors["x"][30000, 0]) and tensors["x"].shape == (30001, 2)


def scikit_learn(tmp_path, code):
    """Runs code with the system's scikit-learn; what it puts into `out` comes back as arrays."""
    program = "import numpy as np, sklearn.datasets, scipy.sparse\nout = {}\n" + code
    program += f"\nnp.savez({str(tmp_path / 'expected.npz')!r}, **out)\n"
    subprocess.run(["/usr/bin/python3", "-c", program], check=True, cwd=tmp_path, timeout=120)
    return np.load(tmp_path / "expected.npz")


def test_digits_of_scikit_learn(convert, tmp_path):
    expected = scikit_learn(
        tmp_path,
        "import pathlib, shutil\n"
        "d = sklearn.datasets.load_digits(); out.update(x=d.data, y=d.target)\n"
        "shutil.copy(pathlib.Path(sklearn.datasets.__file__).parent / 'data/digits.csv.gz', 'digits.csv.gz')",
    )
    tensors, _ = convert(tmp_path / "digits.csv.gz", options=("--label", "last"))
    assert tensors["x"].dtype == np.uint8
    assert (tensors["x"] == expected["x"]).all() and (tensors["y"] == expected["y"]).all()


@pytest.mark.parametrize("zero_based", [True, False])
def test_libsvm_of_scikit_learn(convert, tmp_path, zero_based):
    expected = scikit_learn(
        tmp_path,
        "m = scipy.sparse.random(500, 90, 0.1, random_state=0, format='csr'); labels = np.arange(500) % 4\n"
        f"sklearn.datasets.dump_svmlight_file(m, labels, 'data.svm', zero_based={zero_based}, query_id=labels)\n"
        "x, y, qid = sklearn.datasets.load_svmlight_file('data.svm', query_id=True)\n"
        "out.update(x=x.toarray(), y=y, qid=qid)",
    )
    tensors, schema = convert(tmp_path / "data.svm")
    dense = np.zeros(schema["shape"])
    rows = np.repeat(np.arange(500), np.diff(tensors["x.indptr"]))
    dense[rows, tensors["x.indices"]] = tensors["x.values"]
    assert (dense == expected["x"][:, : dense.shape[1]]).all()
    assert (tensors["y"] == expected["y"]).all() and (tensors["qid"] == expected["qid"]).all()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=">i4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(60).reshape(3, 4, 5)),
        np.array([True, False]),
        np.linspace(0, 1, 7).astype(np.float16),
        np.zeros((0, 3)),
        np.array([2**64 - 1], np.uint64),
    ],
)
def test_npy(convert, array):
    tensors, _ = convert(npy(array), name="a.npy")
    assert tensors["a"].shape == array.shape and (tensors["a"] == array).all()


def test_npz_with_split(convert):
    x, out = np.random.default_rng(2).standard_normal((100, 5)), io.BytesIO()
    np.savez_compressed(out, x=x, y=np.arange(100))
    tensors, _ = convert(out.getvalue(), name="a.npz", options=("--split", "train=0.5,test=0.5"))
    assert (tensors["train/x"] == x[tensors["train/y"]]).all()
    assert sorted(np.concatenate([tensors["train/y"], tensors["test/y"]])) == list(range(100))


def idx(array, code):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def test_idx_as_mnist_has_it(convert, tmp_path):
    images = np.random.default_rng(3).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8)
    files = {
        "train-images-idx3-ubyte": idx(images, 8),
        "train-labels-idx1-ubyte": idx(labels, 8),
        "t10k-images-idx3-ubyte.gz": gzip.compress(idx(images[:5], 8)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    tensors, _ = convert(*(tmp_path / name for name in files))
    assert (tensors["train/x"] == images).all() and (tensors["train/y"] == labels).all()
    assert (tensors["test/x"] == images[:5]).all()


def test_json_lines(convert):
    lines = [{"v": [i * 0.5, i], "s": "ab"[i % 2], "n": None if i % 10 == 0 else i} for i in range(100)]
    tensors, schema = convert("\n".join(map(json.dumps, lines)), options=("--label", "s"))
    assert [c["name"] for c in schema["columns"]] == ["v[0]", "v[1]", "s", "n"]
    assert (tensors["x"][:, 0] == np.arange(100) * 0.5).all() and np.isnan(tensors["x"][10, 2])


def zipped(name, content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


MALFORMED = {
    "csv with a short row": ("a,b\n1,2\n3\n", (), "line 3 has 1 fields"),
    "csv with an open quote": ('a,b\n1,"2\n', (), "never closed"),
    "csv with NUL": (b"a,b\n1,\0\n", (), ""),
    "csv without rows": ("a,b\n", (), "no rows"),
    "csv that is UTF-16": ("a,b\n1,2\n".encode("utf-16"), ("--format", "csv"), "UTF-16"),
    "csv that is Latin-1": ("a,b\n1,\xe4\n".encode("latin-1"), (), "UTF-8"),
    "csv with a column twice": ("a,a\n1,2\n", (), "two columns"),
    "label that is not there": ("a,b\n1,2\n", ("--label", "c"), "no column 'c'"),
    "label that is NaN": ("a,y\n1,2\n2,nan\n", ("--label", "y"), "line 3"),
    "label that is infinite": ("a,y\n1,2\n2,inf\n", ("--label", "y"), "not finite"),
    "gzip cut short": (gzip.compress(b"a,b\n1,2\n" * 1000)[:-20], (), "cut short"),
    "gzip damaged": (b"\x1f\x8b\x08" + b"\xff" * 100, (), "damaged"),
    "empty": (b"", (), "empty"),
    "shares that are not 1": ("a\n1\n", ("--split", "train=0.5,test=0.4"), "add up"),
    "libsvm out of order": ("1 2:1 1:1\n", (), "ascend"),
    "libsvm with a huge index": ("1 99999999999:1\n", (), "greater than"),
    "libsvm with a NaN label": ("nan 1:1\n", ("--format", "libsvm"), "label"),
    "libsvm with an infinite value": ("1 1:inf\n", (), "finite"),
    "idx cut short": (idx(np.zeros((10, 4), np.uint8), 8)[:-1], (), "claims"),
    "idx with bytes behind": (idx(np.zeros((10, 4), np.uint8), 8) + b"x", (), "claims"),
    "idx of 10 GB in 1 KB": (struct.pack(">HBB3I", 0, 8, 3, 10000, 1000, 1000) + bytes(1000), (), "claims 10000000000"),
    "idx of 10 GB in 1 KB of gzip": (
        gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 10000, 1000, 1000) + bytes(1000)), (), "cut short"),
    "idx that overflows": (struct.pack(">HBB4I", 0, 8, 4, *[2**32 - 1] * 4), (), "overflows"),
    "npy cut short": (npy(np.arange(100.0))[:-1], (), "claims"),
    "npy of objects": (npy(np.array([{}], dtype=object)), (), "run code"),
    "npy with a huge header": (b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(900), (), "claims a header"),
    "npy that overflows": (
        npy(np.zeros(1)).replace(b"'shape': (1,)", b"'shape': (9223372036854775807,)"), (), ""),
    "npz with another file": (zipped("x.txt", b"x"), (), "not an .npy"),
    "npz with a name that leads out": (zipped("../x.npy", npy(np.zeros(3))), (), "leads upwards"),
    "npz that is a bomb": (zipped("x.npy", npy(np.zeros(4_000_000))), (), "times its size"),
    "safetensors of 10 GB in 1 KB": (struct.pack("<Q", 10 * 2**30) + b'{"x"' + bytes(1000), ("--format", "safetensors"), "claims a header"),
    "json line that is none": ('{"a":1}\n{"a":\n', (), "line 2"),
    "json line of another shape": ('{"a":1}\n{"b":1}\n', (), "not in the first"),
    "json line with NaN": ('{"a":1}\n{"a":NaN}\n', (), "line 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(cli, tmp_path, name):
    content, options, message = MALFORMED[name]
    source, out = tmp_path / "bad", tmp_path / "out"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = cli("dataset", "convert", source, "--output", out, *options, check=False)
    assert result.returncode in (1, 2), result.stderr
    assert message in result.stderr
    assert not out.exists()


def test_versions_lineage_and_removal(daemon, cli, tmp_path):
    source = tmp_path / "points.csv"
    source.write_text("a,b,kind\n" + "".join(f"{i},{i * 0.25},k{i % 3}\n" for i in range(60)))
    created = cli.json("dataset", "import", "points", source, "--label", "kind", "--split", "train=0.8,test=0.2")
    assert created["address"] == "points@1" and created["rows"] == 60
    assert cli.json("dataset", "import", "points", source)["address"] == "points@2"

    shown = cli.json("dataset", "show", "points@1")
    assert [part["rows"] for part in shown["schema"]["splits"]] == [48, 12]
    assert shown["first_rows"]["columns"] == ["a", "b", "kind"] and len(shown["first_rows"]["rows"]) == 5
    text = cli("dataset", "show", "points@1").stdout
    assert "48" in text and "k0" in text and "█" in text

    assert [item["name"] for item in cli.json("dataset", "ls")] == ["points"]
    assert [item["version"] for item in cli.json("dataset", "ls", "points")] == [2, 1]
    lineage = cli.json("dataset", "lineage", "points@1")
    assert lineage["sources"][0]["name"] == "points.csv" and lineage["options"]["label"] == "kind"

    missing = cli("dataset", "show", "points@9", check=False)
    assert missing.returncode != 0 and "the newest is points@2" in missing.stderr
    cli("dataset", "rm", "points@2")
    assert cli.json("dataset", "import", "points", source)["address"] == "points@3"
    cli("dataset", "rm", "points")
    assert cli.json("dataset", "ls") == []


def test_import_of_an_uploaded_blob(daemon):
    client = daemon.client()
    text = b"a,b,y\n" + b"".join(b"%d,%d,%d\n" % (i, i * i, i % 2) for i in range(50))
    blob = client.post("/api/v1/blobs", body=text)
    body = {"files": [{"name": "x.csv", "digest": blob["digest"]}], "import": {"label": "y"}}
    created = client.post("/api/v1/datasets/remote/versions", body)
    assert created["rows"] == 50 and created["lineage"]["sources"][0]["name"] == "x.csv"
    rows = client.get("/api/v1/datasets/remote/rows", query={"rows": 2})
    assert rows == {"columns": ["a", "b", "y"], "rows": [[0, 0, 0], [1, 1, 1]]}
    bad = client.request("POST", "/api/v1/datasets/remote/versions", {**body, "import": {"label": "z"}})
    assert bad.status == 400 and "no column 'z'" in bad.json["error"]["message"]
    fake = client.request("POST", "/api/v1/datasets/remote/versions",
                          {"files": [{"name": "data.safetensors", "digest": blob["digest"]}]})  # fmt: skip
    assert fake.status == 400 and "not a valid safetensors" in fake.json["error"]["message"]
    absent = {"files": [{"name": "x", "digest": "sha256:" + "0" * 64}]}
    assert client.request("POST", "/api/v1/datasets/remote/versions", absent).status == 404
    escape = {"files": [{"name": "../x", "digest": blob["digest"]}]}
    assert client.request("POST", "/api/v1/datasets/remote/versions", escape).status == 400


def test_files_are_kept_as_they_are(daemon, cli, tmp_path):
    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "photos/a.bin").write_bytes(b"\0\1\2")
    (tmp_path / "photos/deep/b.txt").write_text("text")
    created = cli.json("dataset", "import", "photos", "--files", tmp_path / "photos")
    assert sorted(file["name"] for file in created["files"]) == ["a.bin", "deep/b.txt"]
    reply = daemon.client().request("GET", "/api/v1/datasets/photos/files/deep/b.txt")
    assert reply.status == 200 and reply.body == b"text"


def test_export(daemon, cli, tmp_path):
    source = tmp_path / "points.csv"
    source.write_text("a,b,kind\n" + "".join(f"{i},{i * 0.25},k{i % 3}\n" for i in range(60)))
    cli("dataset", "import", "points", source, "--label", "kind", "--split", "train=0.8,test=0.2", "--seed", "3")
    stored = daemon.client().request("GET", "/api/v1/datasets/points/files/data.safetensors").body

    whole = tmp_path / "points.safetensors"
    cli("dataset", "export", "points", "--output", whole)
    assert whole.read_bytes() == stored
    tensors, _ = load(whole)
    assert sorted(tensors) == ["test/x", "test/y", "train/x", "train/y"]

    text = cli("dataset", "export", "points@1", "--split", "train", "--format", "csv").stdout
    assert text.startswith("a,b,kind\n") and len(text.splitlines()) == 49
    rows = np.genfromtxt(io.StringIO(text), delimiter=",", skip_header=1, usecols=(0, 1))
    assert (rows == tensors["train/x"]).all()

    part = tmp_path / "train.safetensors"
    cli("dataset", "export", "points", "--split", "train", "--output", part)
    again, schema = load(part)
    assert (again["x"] == tensors["train/x"]).all() and (again["y"] == tensors["train/y"]).all()
    assert schema["rows"] == 48 and "splits" not in schema

    cli("dataset", "export", "points", "--format", "npy", "--output", tmp_path / "npy")
    assert (np.load(tmp_path / "npy/test/y.npy") == tensors["test/y"]).all()
    cli("dataset", "export", "points", "--split", "test", "--tensor", "x", "--output", tmp_path)
    assert (np.load(tmp_path / "points-v1-test.npy") == tensors["test/x"]).all()

    for options, message in (
        (("--split", "valid"), "there are test, train"),
        (("--format", "xls"), "not a format"),
        (("--tensor", "z"), "there is no tensor 'z'"),
        (("--format", "npy", "--output", tmp_path / "npy"), "not an empty directory"),
        (("--output", tmp_path / "absent/x.csv"), "cannot write"),
    ):
        refused = cli("dataset", "export", "points", *options, check=False)
        assert refused.returncode != 0 and message in refused.stderr, refused.stderr
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_export_and_import_again(cli, tmp_path):
    rng = np.random.default_rng(4)
    words = ["red", '"a, b"', '"say ""hi"""', ""]
    lines = [f"{float(rng.normal())!r},{rng.integers(1000)},{rng.choice(words)}\n" for _ in range(2000)]
    (tmp_path / "first.csv").write_text("real,whole,word\n" + "".join(lines))
    cli("dataset", "import", "first", tmp_path / "first.csv")
    cli("dataset", "export", "first", "--output", tmp_path / "second.csv")
    cli("dataset", "import", "second", tmp_path / "second.csv")
    for name in ("first", "second"):
        cli("dataset", "export", name, "--output", tmp_path / f"{name}.safetensors")
    first, second = (load(tmp_path / f"{name}.safetensors")[0] for name in ("first", "second"))
    assert sorted(first) == sorted(second) == ["x", "x.word"]
    assert all(first[name].dtype == second[name].dtype and (first[name] == second[name]).all() for name in first)


def test_export_of_files(cli, tmp_path):
    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "photos/a.bin").write_bytes(b"\0\1\2")
    (tmp_path / "photos/deep/b.txt").write_text("text")
    cli("dataset", "import", "photos", "--files", tmp_path / "photos")
    cli("dataset", "export", "photos", "--output", f"{tmp_path}/out/")
    assert (tmp_path / "out/a.bin").read_bytes() == b"\0\1\2" and (tmp_path / "out/deep/b.txt").read_text() == "text"
    refused = cli("dataset", "export", "photos", "--format", "csv", check=False)
    assert refused.returncode != 0 and "kept as files" in refused.stderr
