"""A script of a user, run as a process with a prepared directory in place of /slipway."""

import json
import os
import subprocess
import sys

import pytest

numpy = pytest.importorskip("numpy")
from slipway import read_safetensors, write_safetensors  # noqa: E402


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "slipway"
    (root / "data" / "digits").mkdir(parents=True)
    (root / "weights").mkdir()
    (root / "resume").mkdir()
    write_safetensors(
        root / "data" / "digits" / "data.safetensors",
        {"train/x": numpy.ones((4, 2), "uint8"), "train/y": numpy.arange(4), "test/x": numpy.zeros((1, 2), "uint8")},
        {"schema": json.dumps({"rows": 5})},
    )
    (root / "params.json").write_text('{"rate": 0.5, "name": "x"}')
    return root


def script(root, text, inside=True, cwd=None, env=None):
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(__file__)), **(env or {}))
    environment.pop("SLIPWAY_RUN_ID", None)
    if inside:
        environment.update(SLIPWAY_DIR=str(root), SLIPWAY_RUN_ID="0" * 32)
    result = subprocess.run([sys.executable, "-c", "import slipway\n" + text], env=environment, cwd=cwd,
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_dataset_and_params(root):
    out = script(root, """
ds = slipway.dataset()
print(ds.train.x.sum(), ds["train/y"].tolist(), ds.test["x"].shape, ds.schema["rows"], sorted(ds.train))
print(slipway.params.rate, slipway.params.get("missing", 7), slipway.datasets())
""")
    assert out == "8 [0, 1, 2, 3] (1, 2) 5 ['x', 'y']\n0.5 7 ['digits']\n"


def test_errors_name_what_there_is(root):
    out = script(root, """
for call in (lambda: slipway.dataset("digit"), lambda: slipway.dataset()["x"], lambda: slipway.params.rat):
    try:
        call()
    except (KeyError, AttributeError) as e:
        print(e)
""")
    assert "there are: digits" in out and "it has: train/y" in out and "there are: rate, name" in out


def test_log_is_one_line_each(root):
    script(root, """
import threading, numpy
def work(k):
    for i in range(200):
        slipway.log(step=i, loss=numpy.float32(0.5), thread=k)
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
""")
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 800
    for k in range(4):
        assert [r["step"] for r in rows if r["thread"] == k] == list(range(200))


def test_save_weights_appears_whole(root):
    script(root, """
import numpy
slipway.save_weights({"w": numpy.ones(3, "float32")})
try:
    slipway.save_weights({"w": numpy.array(["text"])})
except TypeError as e:
    pass
slipway.save_weights({"w": numpy.zeros(3, "float32")}, name="last")
""")
    assert sorted(os.listdir(root / "weights")) == ["generation-000001.safetensors", "last.safetensors"]
    assert read_safetensors(root / "weights" / "last.safetensors")["w"].tolist() == [0, 0, 0]


def test_resume(root):
    assert script(root, "print(slipway.resume())") == "None\n"
    write_safetensors(root / "resume" / "g.safetensors", {"w": numpy.ones(2)})
    assert script(root, "print(slipway.resume()['w'].tolist())") == "[1.0, 1.0]\n"


def test_works_outside_of_a_run(root, tmp_path):
    desk = tmp_path / "desk"
    desk.mkdir()
    out = script(root, """
slipway.log(step=1, loss=0.25)
print(slipway.params.get("rate"), slipway.run_id())
""", inside=False, cwd=desk, env={"SLIPWAY_PARAM_RATE": "0.1"})
    assert out == '{"step": 1, "loss": 0.25}\n0.1 None\n'
    assert (desk / "slipway-run" / "metrics.jsonl").exists()
