"""The daemon is killed with -9 at random moments of a training; the training does not notice, and nothing is lost.

SLIPWAY_KILLS sets how often (50); the seed is printed with a failure."""

import os
import random
import time

from conftest import wait_until

KILLS = int(os.environ.get("SLIPWAY_KILLS", "50"))

TRAINING = """
import json, os, struct, sys, time

top = os.environ["SLIPWAY_DIR"]
seconds, weights_every = float(sys.argv[1]), 40


def save(step):
    data = struct.pack("<q", step) * 512
    header = json.dumps({"step": {"dtype": "I64", "shape": [512], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    name = f"{top}/weights/.{step}.tmp"
    with open(name, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + data)
    os.rename(name, f"{top}/weights/step-{step}.safetensors")


end = time.monotonic() + seconds
step = 0
with open(top + "/metrics.jsonl", "a", buffering=1) as metrics:
    while time.monotonic() < end or step % weights_every:
        step += 1
        metrics.write(json.dumps({"step": step, "loss": 1 / step, "half": step / 2}) + "\\n")
        print("line", step, flush=True)
        if step % weights_every == 0:
            save(step)
        time.sleep(0.003)
print("last", step, flush=True)
"""


def pages(client, path):
    items, after = [], None
    while True:
        page = client.get(path, query={"after": after} if after else None)
        items += page["items"]
        after = page["next"]
        if after is None:
            return items


def check_journal(client):
    events = pages(client, "/api/v1/events")
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return events


def check_complete(client, run_id):
    """Log, metrics, weights and events of the run tell the same story, once."""
    log = client.request("GET", f"/api/v1/runs/{run_id}/nodes/0/log").body.decode().splitlines()
    steps = int(log[-1].split()[1])
    assert log == [f"line {i}" for i in range(1, steps + 1)] + [f"last {steps}"]

    series = client.get(f"/api/v1/runs/{run_id}/metrics", query={"points": 0})["items"]
    assert sorted(s["name"] for s in series) == ["half", "loss"]
    for s in series:
        value = {"loss": lambda i: 1 / i, "half": lambda i: i / 2}[s["name"]]
        assert [(p[0], p[2]) for p in s["points"]] == [(i, value(i)) for i in range(1, steps + 1)]

    weights = client.get(f"/api/v1/runs/{run_id}/weights")["items"]
    assert [w["generation"] for w in weights] == list(range(1, steps // 40 + 1))
    assert [w["name"] for w in weights] == [f"step-{40 * i}.safetensors" for i in range(1, len(weights) + 1)]
    assert len({w["digest"] for w in weights}) == len(weights)
    for w in (weights[0], weights[-1]):
        content = client.request("GET", f"/api/v1/runs/{run_id}/weights/{w['generation']}").body
        assert content[-8:] == (40 * w["generation"]).to_bytes(8, "little")

    of_run = [e for e in check_journal(client) if e["subject"] == f"run/{run_id}"]
    states = [e["type"].rpartition(".")[2] for e in of_run]
    assert [s for s in states if s != "weights"] == ["queued", "starting", "running", "succeeded"]
    assert [e["data"]["generation"] for e in of_run if e["type"].endswith("weights")] == [w["generation"] for w in weights]
    return steps


def test_kill_at_random_moments(make_daemon, tmp_path):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    daemon = make_daemon(serve="none")
    client = daemon.client()
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    seconds = max(2.0, KILLS * 0.2)
    run = client.post(
        "/api/v1/runs", {"entry": ["python3", "-c", TRAINING, str(seconds)], "resources": {"cpus": 1}}
    )
    for _ in range(KILLS):
        time.sleep(dice.random() * 0.15)
        daemon.kill()
        # Now and then dead again before it answers.
        if dice.random() < 0.2:
            daemon.start(wait=False)
            time.sleep(dice.random() * 0.03)
            daemon.kill()
        daemon.start()
    run = wait_until(
        lambda: (r := daemon.client().get(f"/api/v1/runs/{run['id']}"))["state"]
        in ("succeeded", "failed", "stopped", "lost") and r,
        seconds=seconds + 60,
        what="the end of the run",
    )
    assert (run["state"], run["reason"], run["exit_code"]) == ("succeeded", "completed", 0), run
    assert check_complete(daemon.client(), run["id"]) > 100


def test_end_while_the_daemon_is_dead(make_daemon):
    """What a run wrote while nobody looked is taken in afterwards."""
    daemon = make_daemon(serve="none")
    client = daemon.client()
    run = client.post("/api/v1/runs", {"entry": ["python3", "-c", TRAINING, "1"]})
    wait_until(lambda: client.get(f"/api/v1/runs/{run['id']}")["state"] == "running", what="running")
    daemon.kill()
    time.sleep(1.5)
    daemon.start()
    wait_until(lambda: client.get(f"/api/v1/runs/{run['id']}")["state"] == "succeeded", what="the end")
    check_complete(client, run["id"])


def test_queue_survives(make_daemon):
    """Runs that wait are there after a crash, in order; none runs twice."""
    daemon = make_daemon(serve="none")
    client = daemon.client()
    total = client.get("/api/v1/nodes")["items"][0]["cpus"]["total"]
    ids = [
        client.post("/api/v1/runs", {"entry": ["sh", "-c", f"echo {i}; sleep 0.05"], "resources": {"cpus": total}})["id"]
        for i in range(8)
    ]
    for _ in range(4):
        time.sleep(0.1)
        daemon.kill()
        daemon.start()
    wait_until(
        lambda: all(client.get(f"/api/v1/runs/{i}")["state"] == "succeeded" for i in ids), what="all eight to succeed"
    )
    started = [client.get(f"/api/v1/runs/{i}")["started_at"] for i in ids]
    assert started == sorted(started)
    for number, run_id in enumerate(ids):
        attempt = client.get(f"/api/v1/runs/{run_id}")["attempt"]
        log = client.request("GET", f"/api/v1/runs/{run_id}/nodes/0/log?attempt={attempt}").body
        assert log == f"{number}\n".encode()
    check_journal(client)
