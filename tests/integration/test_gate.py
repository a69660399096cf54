"""Gates and the registry on real runs: weights become versions, rules decide, records chain, runs repeat."""

import io
import json
import struct
import zipfile

import pytest
from conftest import wait_until

TRAIN = """
import json, os, random, struct

params = json.load(open(os.environ.get("SLIPWAY_DIR", "/slipway") + "/params.json"))
root = os.environ.get("SLIPWAY_DIR", "/slipway")
metrics = open(root + "/metrics.jsonl", "a")


def save(name, values):
    data = struct.pack("<%df" % len(values), *values)
    header = json.dumps({"w": {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(root + "/weights/.tmp", "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + data)
    os.rename(root + "/weights/.tmp", root + "/weights/" + name)


random.seed(params.get("seed", 0))
for step in range(1, params.get("generations", 1) + 1):
    if params.get("noise"):
        random.seed()
    metrics.write(json.dumps({"step": step, "accuracy": params["accuracy"] * step / params.get("generations", 1)}) + "\\n")
    metrics.flush()
    save("g%d.safetensors" % step, [random.random() for _ in range(1000)])
"""

MODEL = "def init():\n    pass\n\ndef predict(text):\n    return text\n"


@pytest.fixture
def code(client):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        for name, text in (("model.py", MODEL), ("train.py", TRAIN)):
            z.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), text)
    return client.post("/api/v1/blobs", body=archive.getvalue())["digest"]


@pytest.fixture
def train(client, code):
    """train(accuracy=0.9, gate="…") runs to the end and returns (run, gate or None)."""

    def train(gate=None, alias="production", model="vision/toy", **parameters):
        body = {"code": code, "entry": ["python3", "train.py"], "model": model, "parameters": parameters}
        if gate:
            body["gate"] = {"rule": gate, "alias": alias}
        run = client.post("/api/v1/runs", body)["id"]
        ended = wait_until(
            lambda: (r := client.get(f"/api/v1/runs/{run}"))["state"] not in ("queued", "starting", "running") and r,
            seconds=60,
            what="end of the run",
        )
        assert ended["state"] == "succeeded", ended
        if not gate:
            return run, None
        return run, wait_until(
            lambda: (g := client.get(f"/api/v1/runs/{run}/gate"))["state"] != "pending" and g, what="the verdict"
        )

    return train


def test_accepts_promotes_and_rejects(train, cli, client):
    run, gate = train(accuracy=0.96, gate="accuracy >= 0.95", generations=2)
    assert (gate["state"], gate["version"], gate["champion"]) == ("accepted", 2, None)
    assert gate["seen"]["metrics"]["accuracy"] == 0.96 and gate["seen"]["weights"] is None
    assert cli.json("model", "show", "vision/toy@production")["version"] == 2

    run, gate = train(accuracy=0.5, gate="accuracy >= 0.95")
    assert (gate["state"], gate["version"], gate["champion"]) == ("rejected", 3, 2)
    assert gate["reason"] == "accuracy = 0.5"
    assert 0 < gate["seen"]["weights"]["relative_l2"] < 2 and gate["seen"]["weights"]["comparable"]
    assert gate["seen"]["champion"]["metrics"]["accuracy"] == 0.96
    assert cli.json("model", "show", "vision/toy@production")["version"] == 2

    run, gate = train(accuracy=0.97, gate="accuracy > champion.accuracy", seed=1)
    assert (gate["state"], gate["champion"]) == ("accepted", 2)
    shown = cli.json("model", "show", "vision/toy@production")
    assert (shown["version"], shown["run"], shown["gate"]["verdict"]) == (4, run, "accepted")
    assert [m["reason"] for m in cli.json("model", "history", "vision/toy")] == ["gate_accepted", "gate_accepted"]
    verified = cli.json("model", "verify", "vision/toy")
    assert verified["ok"] and verified["versions"] == 4 and verified["records"] == 4 + 3, [(v, r["kind"], r["record"].get("verdict"), r["record"].get("run")) for v in (1, 2, 3, 4) for r in client.get(f"/api/v1/models/vision/toy/versions/{v}/release")]


@pytest.mark.parametrize(
    "rule, reason",
    [
        ("def f: f; f", "takes more than"),
        ('"yes"', "neither true nor false"),
        (".metrics.accuracy, true", "more than one"),
        ("empty", "no value"),
        ('error("I do not know")', "I do not know"),
        ("[range(1e9)] | length > 0", ""),
    ],
)
def test_a_rule_that_fails_promotes_nothing(train, client, rule, reason):
    run, gate = train(accuracy=1, gate=rule)
    assert gate["state"] == "failed" and reason in gate["reason"]
    assert client.get("/api/v1/models/vision/toy")["aliases"] == {}
    assert client.get("/api/v1/status")["pid"]


def test_a_wrong_rule_is_refused_at_submission(client, code):
    body = {"code": code, "entry": ["true"], "model": "vision/toy", "gate": {"rule": ".metrics.accuracy >="}}
    reply = client.request("POST", "/api/v1/runs", body)
    assert reply.status == 400 and "line 1" in reply.json["error"]["message"]


def test_rule_sees_history_and_weights(train):
    _, first = train(accuracy=0.9, gate="true", generations=3)
    assert first["state"] == "accepted"
    rule = "(.history.accuracy | length == 3) and .weights.relative_l2 == 0 and .weights.cosine > 0.999"
    _, gate = train(accuracy=0.9, gate=rule, generations=3)
    assert gate["state"] == "accepted", gate["reason"]


def test_final_metrics_without_a_gate(train, cli):
    train(accuracy=0.8, generations=2)
    sheet = wait_until(
        lambda: (r := cli.json("model", "show", "vision/toy")["release"]).get("metrics_final") and r, what="result"
    )
    assert sheet["metrics_final"]["accuracy"] == 0.8
    assert sheet["entry"] == ["python3", "train.py"] and sheet["parameters"]["generations"] == 2


def test_decided_after_a_crash(daemon, client, code, cli):
    body = {
        "code": code,
        "entry": ["python3", "train.py"],
        "model": "vision/toy",
        "parameters": {"accuracy": 0.99},
        "gate": {"rule": "accuracy > 0.9"},
    }
    run = client.post("/api/v1/runs", body)["id"]
    daemon.kill()
    daemon.start()
    wait_until(
        lambda: cli.json("model", "ls")
        and client.request("GET", f"/api/v1/runs/{run}/gate").status == 200
        and client.get(f"/api/v1/runs/{run}/gate")["state"] == "accepted",
        seconds=60,
        what="the verdict",
    )
    assert cli.json("model", "show", "vision/toy@production")["run"] == run


def test_reproduce(train, cli):
    train(accuracy=0.9, generations=3, seed=7)
    same = cli.json("model", "reproduce", "vision/toy@2")
    assert same["identical"] and same["weights"] == cli.json("model", "show", "vision/toy@2")["weights_digest"]
    assert len(cli.json("model", "ls", "vision/toy")) == 3  # a repetition makes no version

    train(accuracy=0.9, noise=True, model="vision/noise")
    result = cli("model", "reproduce", "vision/noise@1", check=False)
    assert result.returncode == 1 and "DIFFERENT" in result.stdout


def test_a_run_serves_itself(train, cli, daemon):
    from conftest import Client

    train(accuracy=0.9, gate="accuracy > 0.5")
    cli("endpoint", "create", "toy", "vision/toy@production", "--public")
    assert Client(daemon.serve_url).request("POST", "/predict/toy", body="hello").body == b"hello"


def test_a_program_says_which_metrics_were_missing(train):
    _, gate = train(accuracy=0.9, gate=".metrics.loss < 0.5 and .metrics.accuracy > 0.5")
    assert (gate["state"], gate["reason"]) == ("accepted", "the rule gives true (missing: loss)")
