"""Batches through the real thing: slipway.yaml, the options of an endpoint, what `endpoint show` says."""

import threading

from conftest import Client

MODEL = """
import time

def init():
    pass

def predict_batch(texts):
    time.sleep(0.2)
    return [f"{len(texts)}:{text}" for text in texts]
"""
PREDICT = "def init():\n    pass\n\ndef predict(text):\n    return text\n"


def push(cli, tmp_path, source=MODEL, manifest=None, name="test/batch"):
    directory = tmp_path / "package"
    directory.mkdir(exist_ok=True)
    (directory / "model.py").write_text(source)
    (directory / "slipway.yaml").write_text(manifest or "")
    return cli.json("model", "push", name, directory)


def ask_together(daemon, endpoint, n):
    """Sizes of the batches in which n requests, sent at once, were answered."""
    answers = []

    def ask(i):
        reply = Client(daemon.serve_url, timeout=30).request("POST", f"/predict/{endpoint}", body=f"{i}")
        answers.append(reply.body.decode().split(":"))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(int(i) for _, i in answers) == list(range(n))
    return sorted(int(size) for size, _ in answers)


def test_what_the_package_says_and_what_the_endpoint_says(cli, daemon, client, tmp_path):
    push(cli, tmp_path, manifest="batch: {size: 4, delay: 700ms}\n")
    cli("endpoint", "create", "asis", "test/batch@1", "--public")
    assert ask_together(daemon, "asis", 4) == [4] * 4
    shown = cli.json("endpoint", "show", "asis")
    assert shown["batch"] == {"size": 4, "delay_ms": 700, "reason": None}
    assert "up to 4, waiting 700 ms" in cli("endpoint", "show", "asis").stdout
    route = next(e for e in client.get("/api/v1/gateway")["endpoints"] if e["name"] == "asis")["routes"][0]
    assert route["batches"] == {"count": 1, "requests": 4}

    cli("endpoint", "create", "two", "test/batch@1", "--public", "--batch-size", "2", "--batch-delay", "0.5ms")
    assert cli.json("endpoint", "show", "two")["batch"] == {"size": 2, "delay_ms": 0.5, "reason": None}
    assert max(ask_together(daemon, "two", 6)) == 2

    cli("endpoint", "create", "one", "test/batch@1", "--public", "--batch-size", "1")
    assert cli.json("endpoint", "show", "one")["batch"] == {"size": 1, "delay_ms": 0, "reason": None}
    assert ask_together(daemon, "one", 3) == [1] * 3


def test_the_default_of_a_package_with_the_function(cli, daemon, tmp_path):
    push(cli, tmp_path)
    cli("endpoint", "create", "batch", "test/batch@1", "--public")
    assert cli.json("endpoint", "show", "batch")["batch"] == {"size": 32, "delay_ms": 0, "reason": None}
    sizes = ask_together(daemon, "batch", 8)
    assert sizes[-1] > 1  # those that came while the first was run


def test_wishes_that_cannot_come_true_are_told(cli, daemon, tmp_path):
    push(cli, tmp_path, PREDICT)
    cli("endpoint", "create", "batch", "test/batch@1", "--public", "--batch-size", "8")
    assert cli.json("endpoint", "show", "batch")["batch"] == {
        "size": 1, "delay_ms": 0, "reason": "its package defines no predict_batch()"}
    assert "none: its package defines no predict_batch()" in cli("endpoint", "show", "batch").stdout
    for options in (["--batch-size", "65"], ["--batch-delay", "soon"], ["--batch-delay", "2s"]):
        assert cli("endpoint", "create", "x", "test/batch@1", *options, check=False).returncode != 0
    (tmp_path / "package" / "slipway.yaml").write_text("batch: {size: 8}\n")
    refused = cli("model", "push", "test/batch", tmp_path / "package", check=False)
    assert refused.returncode != 0 and "model.py defines none" in refused.stderr
