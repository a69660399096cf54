"""Answers of deterministic models, through slipway.yaml and the options of an endpoint."""

import pytest
from conftest import Client

MODEL = """
calls = 0

def init():
    pass

def predict(text):
    global calls
    calls += 1
    return f"{calls}:{text}"
"""


@pytest.fixture
def ask(daemon):
    def ask(endpoint, text="a"):
        reply = Client(daemon.serve_url, timeout=30).request("POST", f"/predict/{endpoint}", body=text)
        return reply.body.decode(), reply.headers.get("Slipway-Cache") or reply.headers.get("slipway-cache")

    return ask


def push(cli, tmp_path, manifest):
    directory = tmp_path / "package"
    directory.mkdir(exist_ok=True)
    (directory / "model.py").write_text(MODEL)
    (directory / "slipway.yaml").write_text(manifest)
    return cli.json("model", "push", "test/count", directory)


def test_a_deterministic_package_and_an_endpoint_with_room(cli, client, tmp_path, ask):
    push(cli, tmp_path, "deterministic: true\n")
    cli("endpoint", "create", "count", "test/count@1", "--public", "--cache", "1M")
    assert [ask("count") for _ in range(3)] == [("1:a", None), ("1:a", "hit"), ("1:a", "hit")]
    assert cli.json("endpoint", "show", "count")["cache"] == {"size": 1 << 20, "reason": None}
    assert "1.00 MiB" in cli("endpoint", "show", "count").stdout
    status = next(e for e in client.get("/api/v1/gateway")["endpoints"] if e["name"] == "count")
    assert status["routes"][0]["cache"] == {"hits": 2, "misses": 1} and status["cache"]["answers"] == 1

    cli("endpoint", "set", "count", "--cache", "0")
    assert cli.json("endpoint", "show", "count")["cache"] == {"size": 0, "reason": None}
    assert ask("count") == ("2:a", None)
    assert cli("endpoint", "create", "x", "test/count@1", "--cache", "1T", check=False).returncode != 0

    # A version that does not say so stays without, and `show` says why.
    push(cli, tmp_path, "")
    cli("endpoint", "set", "count", "--cache", "1M")
    assert ask("count")[1] is None and ask("count")[1] == "hit"
    cli("endpoint", "deploy", "count", "2")
    assert [ask("count") for _ in range(2)] == [("1:a", None), ("2:a", None)]
    shown = cli.json("endpoint", "show", "count")
    assert shown["cache"] == {"size": 0, "reason": "its slipway.yaml does not say 'deterministic: true'"}
    assert "off: its slipway.yaml does not say" in cli("endpoint", "show", "count").stdout
