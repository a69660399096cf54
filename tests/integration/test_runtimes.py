"""Models of other runtimes than Python: R, XGBoost, ONNX. The same commands, the same protocols."""

import ctypes
import json
import pathlib
import shutil

import pytest
from conftest import Client, wait_until

TESTDATA = pathlib.Path("/usr/share/libonnx-testdata/data/node")


def xgboost():
    for name in ("libxgboost.so.0", "libxgboost.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    return None


@pytest.fixture
def ask(daemon):
    def ask(path, body):
        return Client(daemon.serve_url, timeout=60).request("POST", path, body=body)

    return ask


R_MODEL = """
init <- function() { factors <<- c(2, 3) }
predict <- function(text) {
  x <- as.numeric(strsplit(gsub("[][ ]", "", text), ",")[[1]])
  if (any(is.na(x))) stop("that is no vector of numbers")
  format(sum(factors * x))
}
"""


@pytest.mark.skipif(not shutil.which("Rscript"), reason="R is not installed")
def test_r(cli, ask, client, tmp_path):
    (tmp_path / "model.R").write_text(R_MODEL)
    pushed = cli.json("model", "push", "test/linear", tmp_path / "model.R")
    assert cli.json("model", "show", "test/linear")["package"]["runtime"] == "r", pushed
    cli("endpoint", "create", "linear", "test/linear", "--public")
    assert ask("/predict/linear", "[1, 10]").body == b"32"
    wrong = ask("/predict/linear", "[a]")
    assert wrong.status == 500 and b"no vector of numbers" in wrong.body
    assert ask("/predict/linear", "[2, 2]").body == b"10"
    assert Client(client.get("/api/v1/status")["serve_url"]).get("/v2/models/linear")["platform"] == "r"


def train_xgboost(library, path):
    """y = 1 where x0 > 0.5."""
    library.XGBGetLastError.restype = ctypes.c_char_p
    rows = [(i / 100, (i * 7 % 13) / 13) for i in range(100)]
    data = (ctypes.c_float * 200)(*[v for row in rows for v in row])
    labels = (ctypes.c_float * 100)(*[float(row[0] > 0.5) for row in rows])
    matrix, booster = ctypes.c_void_p(), ctypes.c_void_p()

    def check(r):
        assert r == 0, library.XGBGetLastError()

    check(library.XGDMatrixCreateFromMat(data, ctypes.c_uint64(100), ctypes.c_uint64(2), ctypes.c_float(-1), ctypes.byref(matrix)))
    check(library.XGDMatrixSetFloatInfo(matrix, b"label", labels, ctypes.c_uint64(100)))
    check(library.XGBoosterCreate((ctypes.c_void_p * 1)(matrix), ctypes.c_uint64(1), ctypes.byref(booster)))
    check(library.XGBoosterSetParam(booster, b"objective", b"binary:logistic"))
    check(library.XGBoosterSetParam(booster, b"nthread", b"1"))
    for i in range(10):
        check(library.XGBoosterUpdateOneIter(booster, i, matrix))
    check(library.XGBoosterSaveModel(booster, str(path).encode()))
    library.XGBoosterFree(booster)
    library.XGDMatrixFree(matrix)


@pytest.mark.skipif(not xgboost(), reason="libxgboost is not installed")
@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_xgboost(cli, ask, tmp_path, suffix):
    path = tmp_path / f"trees.{suffix}"
    train_xgboost(xgboost(), path)
    cli("model", "push", "test/trees", path)
    assert cli.json("model", "show", "test/trees")["package"]["runtime"] == "xgboost"
    cli("endpoint", "create", "trees", "test/trees", "--public")
    low, high = json.loads(ask("/predict/trees", "[[0.1, 0.5], [0.9, 0.5]]").body)
    assert low < 0.3 and high > 0.7
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 0.5, 0.9, 0.5]}]}
    reply = ask("/v2/models/trees/infer", json.dumps(body))
    assert reply.status == 200, reply.body
    assert reply.json["outputs"][0]["data"] == pytest.approx([low, high])
    body["inputs"][0]["shape"] = [4, 1]
    wrong = ask("/v2/models/trees/infer", json.dumps(body))
    assert wrong.status == 400 and "takes [-1, 2]" in wrong.json["error"]


@pytest.mark.plain("OpenVINO opens libraries with RTLD_DEEPBIND, which the sanitizers' run-time refuses")
@pytest.mark.skipif(not TESTDATA.is_dir(), reason="libonnx-testdata is not installed")
def test_onnx(cli, ask, tmp_path):
    (tmp_path / "requirements.txt").write_text("openvino\n")
    cli("env", "create", "vino", tmp_path / "requirements.txt")
    cli("model", "push", "test/relu", TESTDATA / "test_relu/model.onnx", "--environment", "vino")
    assert cli.json("model", "show", "test/relu")["package"]["runtime"] == "onnx"
    cli("endpoint", "create", "relu", "test/relu", "--public", "--timeout", "10s", "--no-wait")
    wait_until(lambda: cli.json("endpoint", "show", "relu")["state"] == "ready", seconds=240, what="the endpoint")
    data = [float(i - 30) for i in range(60)]
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 4, 5], "data": data}]}
    reply = ask("/v2/models/relu/infer", json.dumps(body))
    assert reply.status == 200, reply.body
    assert reply.json["outputs"][0]["data"] == [max(0.0, v) for v in data]
    assert reply.json["outputs"][0]["shape"] == [3, 4, 5]


def test_a_broken_model_says_what_is_wrong(cli, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is no model")
    cli("model", "push", "test/broken", path)
    result = cli("endpoint", "create", "broken", "test/broken", "--public", check=False)
    assert result.returncode == 4 and "OpenVINO" in result.stderr


def test_refused_packages(cli, tmp_path):
    def push(**files):
        directory = tmp_path / "package"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, text in files.items():
            (directory / name.replace("_", ".")).write_text(text)
        return cli("model", "push", "test/m", directory, check=False)

    for files, message in (
        ({"slipway_yaml": "runtime: onnx\nfile: nets/a.onnx\n", "model_onnx": "x"}, "there is no nets/a.onnx"),
        ({"slipway_yaml": "runtime: r\n", "model_py": "x"}, "there is no model.R"),
        ({"slipway_yaml": "runtime: lisp\n", "model_py": "x"}, "runtime"),
        ({"readme_txt": "x"}, "none of model.py"),
    ):
        result = push(**files)
        assert result.returncode != 0 and message in result.stderr, (files, result.stderr)
    other = tmp_path / "model.bin"
    other.write_text("x")
    result = cli("model", "push", "test/m", other, check=False)
    assert result.returncode == 2 and ".onnx" in result.stderr
