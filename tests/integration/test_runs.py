"""Runs from submission to end: states, logs, metrics, weights, retries, stops, jobs, environments."""

import json
import struct

import pytest
from conftest import wait_until

FINAL = ("succeeded", "failed", "stopped", "lost")


def submit(client, *entry, **fields):
    return client.post("/api/v1/runs", {"entry": list(entry), **fields})["id"]


def shell(client, text, **fields):
    return submit(client, "sh", "-c", text, **fields)


def ended(client, run_id, seconds=60):
    return wait_until(
        lambda: (r := client.get(f"/api/v1/runs/{run_id}"))["state"] in FINAL and r, seconds, f"the end of run {run_id}"
    )


def log_of(client, run_id, **query):
    return client.request("GET", f"/api/v1/runs/{run_id}/nodes/0/log", query=query or None).body.decode()


def events_of(client, run_id):
    page = client.get("/api/v1/events", query={"subject": f"run/{run_id}"})
    return [e["type"].removeprefix("slipway.run.") for e in page["items"]]


@pytest.fixture
def client(make_daemon):
    return make_daemon(serve="none").client()


@pytest.mark.parametrize(
    "script, state, reason, code",
    [
        ("exit 0", "succeeded", "completed", 0),
        ("exit 3", "failed", "exit_code", 3),
        ("kill -9 $$", "failed", "signaled", 137),
        ("kill -SEGV $$", "failed", "signaled", 139),
        ("exec >&- 2>&-; exit 5", "failed", "exit_code", 5),
        ("(setsid sleep 1000 &) ; exit 0", "succeeded", "completed", 0),
    ],
)
def test_ends(client, script, state, reason, code):
    run = ended(client, shell(client, script))
    assert (run["state"], run["reason"], run["exit_code"]) == (state, reason, code), run


def test_program_that_does_not_exist(client):
    run = ended(client, submit(client, "no-such-program"))
    assert (run["state"], run["reason"]) == ("failed", "start_failed")


def test_timeout_in_spite_of_ignored_sigterm(client):
    run = ended(client, shell(client, "trap '' TERM; while :; do sleep 0.05; done", timeout_ms=300, grace_ms=200))
    assert (run["state"], run["reason"]) == ("failed", "timeout")


def test_log_parameters_and_events(client):
    run_id = shell(client, 'echo out $SLIPWAY_PARAM_LR; echo err >&2; cat $SLIPWAY_DIR/params.json',
                   parameters={"lr": 0.5, "name": "ä"})
    assert ended(client, run_id)["state"] == "succeeded"
    lines = log_of(client, run_id).splitlines()
    out = [line for line in lines if line != "err"]  # between the two streams there is no order
    assert len(lines) == 3 and out[0] == "out 0.5"
    assert json.loads(out[1]) == {"lr": 0.5, "name": "ä"}
    assert log_of(client, run_id, tail=1) == lines[2] + "\n"
    assert log_of(client, run_id, skip_lines=2) == lines[2] + "\n"
    reply = client.request("GET", f"/api/v1/runs/{run_id}/nodes/0/log", query={"after": 0})
    offset = int(reply.headers["slipway-log-offset"])
    assert log_of(client, run_id, after=offset) == ""
    assert events_of(client, run_id) == ["queued", "starting", "running", "succeeded"]


def test_metrics_that_are_wrong_are_warnings(client):
    run_id = shell(client, r"""cat >> $SLIPWAY_DIR/metrics.jsonl <<'END'
{"step": 1, "loss": 0.5}
not json
{"step": 2, "loss": NaN}
[1]
{"step": 3, "loss": 0.25}
END""")
    assert ended(client, run_id)["state"] == "succeeded"
    (series,) = client.get(f"/api/v1/runs/{run_id}/metrics")["items"]
    assert [(p[0], p[2]) for p in series["points"]] == [(1, 0.5), (2, None), (3, 0.25)]
    assert events_of(client, run_id).count("warning") == 3
    assert client.get(f"/api/v1/runs/{run_id}/nodes")["items"][0]["warnings"] == 3


def safetensors(value):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", value)


def test_retry_resumes_from_the_newest_weights(client):
    script = f"""
import os, sys
top = os.environ["SLIPWAY_DIR"]
if os.path.exists(top + "/resume/weights.safetensors"):
    print("resumed", open(top + "/resume/weights.safetensors", "rb").read() == {safetensors(2)!r})
    sys.exit(0)
for value, data in ((1, {safetensors(1)!r}), (2, {safetensors(2)!r})):
    open(top + "/weights/.tmp", "wb").write(data)
    os.rename(top + "/weights/.tmp", top + f"/weights/w{{value}}.safetensors")
open(top + "/weights/half.safetensors", "wb").write({safetensors(3)[:20]!r})
sys.exit(1)
"""
    run_id = submit(client, "python3", "-c", script, retries=2)
    run = ended(client, run_id)
    assert (run["state"], run["attempt"], run["failures"]) == ("succeeded", 2, 1), run
    assert log_of(client, run_id) == "resumed True\n"
    assert [w["generation"] for w in client.get(f"/api/v1/runs/{run_id}/weights")["items"]] == [1, 2]
    assert [n["attempt"] for n in client.get(f"/api/v1/runs/{run_id}/nodes")["items"]] == [1, 2]


def test_retries_are_counted(client):
    run = ended(client, shell(client, "exit 1", retries=2))
    assert (run["state"], run["attempt"], run["failures"]) == ("failed", 3, 2)
    assert client.post(f"/api/v1/runs/{run['id']}/retry")["state"] == "queued"
    run = ended(client, run["id"])
    assert (run["state"], run["attempt"]) == ("failed", 4)


def test_pause_between_attempts_grows(make_daemon):
    daemon = make_daemon(serve="none")
    client = daemon.client()
    run_id = shell(client, "exit 1", retries=9)
    why = wait_until(lambda: (w := client.get(f"/api/v1/runs/{run_id}/why"))["reason"] == "paused" and w, what="a pause")
    assert "next one may start in" in why["message"] and why["expected_at"]
    wait_until(lambda: client.get(f"/api/v1/runs/{run_id}")["failures"] == 3, what="the third failure")
    daemon.kill()
    daemon.start()
    # The pause of 5 s is kept over a restart; others pass meanwhile.
    assert client.get(f"/api/v1/runs/{run_id}/why")["reason"] == "paused"
    assert ended(client, shell(client, "true"))["state"] == "succeeded"
    client.post(f"/api/v1/runs/{run_id}/stop")
    assert client.get(f"/api/v1/runs/{run_id}")["state"] == "stopped"
    queued = [e for e in client.get("/api/v1/events", query={"subject": f"run/{run_id}"})["items"] if e["type"].endswith("queued")]
    assert ["not_before" in e["data"] for e in queued] == [False, False, True, True]


def test_stop_while_running_and_while_queued(client):
    total = client.get("/api/v1/nodes")["items"][0]["cpus"]["total"]
    first = shell(client, "sleep 60", resources={"cpus": total})
    second = shell(client, "true", resources={"cpus": total})
    wait_until(lambda: client.get(f"/api/v1/runs/{first}")["state"] == "running")
    client.post(f"/api/v1/runs/{second}/stop")
    assert client.get(f"/api/v1/runs/{second}")["state"] == "stopped"
    client.post(f"/api/v1/runs/{first}/stop")
    run = ended(client, first)
    assert (run["state"], run["reason"]) == ("stopped", "stopped_by_user")
    assert client.request("POST", f"/api/v1/runs/{first}/stop").status == 409
    assert client.get("/api/v1/nodes")["items"][0]["holders"] == []


def test_artifacts_and_removal(client, tmp_path):
    run_id = shell(client, "mkdir -p $SLIPWAY_DIR/out/a; echo one > $SLIPWAY_DIR/out/a/x; ln -s /etc/shadow $SLIPWAY_DIR/out/l")
    ended(client, run_id)
    assert client.get(f"/api/v1/runs/{run_id}/artifacts")["items"] == [{"path": "a/x", "size": 4, "node": 0}]
    assert client.request("GET", f"/api/v1/runs/{run_id}/artifacts/a/x").body == b"one\n"
    for bad in ("l", "../log", "a/../../log", "%2e%2e/log", "nope", "a"):
        assert client.request("GET", f"/api/v1/runs/{run_id}/artifacts/{bad}").status in (400, 404)
    assert client.request("DELETE", f"/api/v1/runs/{run_id}").status == 204
    assert client.request("GET", f"/api/v1/runs/{run_id}").status == 404


def test_bad_requests_name_the_field(client):
    for body, status, text in (
        ({"entry": "python3"}, 400, "entry"),
        ({"entry": ["x"], "nonsense": 1}, 400, "nonsense"),
        ({"entry": ["x"], "resources": {"cpus": "many"}}, 400, "resources.cpus"),
        ({"entry": ["x"], "job": "nope"}, 404, "nope"),
        ({"entry": ["x"], "code": "sha256:" + "0" * 64}, 404, "upload the code"),
        ({"entry": ["x"], "datasets": ["nope@3"]}, 404, "nope"),
    ):
        reply = client.request("POST", "/api/v1/runs", body)
        assert reply.status == status, (body, reply.body)
        assert text in reply.json["error"]["message"]
    assert client.request("GET", "/api/v1/runs/zzz").status == 404
    assert client.request("GET", "/api/v1/runs", query={"state": "odd"}).status == 400


def test_job_and_code_versions(make_daemon, environment, tmp_path):
    from conftest import Cli

    daemon = make_daemon(serve="none")
    cli = Cli(environment, daemon.data)
    script = tmp_path / "t.py"
    script.write_text("print('first')\n")
    cli("job", "create", "j", script, "--param", "n=3", "--cpus", "0.5")
    assert cli("job", "run", "j", "--follow").stdout == "first\n"
    script.write_text("import sys; print('second', sys.argv[1:])\n")
    assert cli.json("job", "code", "push", "j", script)["version"] == 2
    assert cli.json("job", "code", "push", "j", script)["version"] == 2
    assert cli("job", "run", "j", "--follow", "--", "-x", "y").stdout == "second ['-x', 'y']\n"
    assert cli("job", "run", "j", "--code", "1", "--follow").stdout == "first\n"
    cli("job", "code", "get", "j", "1", "--output", tmp_path / "one.zip")
    assert cli("run", tmp_path / "one.zip", "--entry", "python3 t.py", "--follow").stdout == "first\n"
    assert cli("job", "run", "nope", check=False).returncode == 3


@pytest.mark.slow
def test_environment_is_built_once_and_used(client):
    client.post("/api/v1/environments", {"name": "empty", "requirements": "# nothing\n"})
    runs = [submit(client, "python3", "-c", "import sys; print(sys.prefix)", environment="empty") for _ in range(2)]
    for run_id in runs:
        assert ended(client, run_id, 120)["state"] == "succeeded"
        assert "/environments/" in log_of(client, run_id)
    assert client.get("/api/v1/environments/empty")["cpu"]["state"] == "ready"
    assert b"exit status 0" in client.request("GET", "/api/v1/environments/empty/log").body


@pytest.mark.slow
def test_environment_that_cannot_be_built(client):
    client.post("/api/v1/environments", {"name": "bad", "requirements": "--no-index\nno-such-thing-at-all\n"})
    run = ended(client, submit(client, "true", environment="bad"), 120)
    assert (run["state"], run["reason"]) == ("failed", "environment_failed")
    assert "no-such-thing-at-all" in run["message"]
    assert b"no-such-thing-at-all" in client.request("GET", "/api/v1/environments/bad/log").body


# -- what a broken disk or a stranger did to the intake --


@pytest.mark.parametrize(
    "line, what",
    [
        (b"\x00\x01 no json\n", "intake.jsonl is unreadable from byte"),
        (b"[]\n", "no object"),
        (b'{"seq":99999,"time":"2026-01-01T00:00:00Z","type":"metric","values":{"x":1}}\n', "line 99999 comes where"),
        (b'{"seq":%d,"time":"","type":"weights","generation":1,"file":"/etc/shadow"}\n{}\n', "unreadable"),
        (b"", "comes where"),
    ],
)
def test_intake_that_cannot_be_read_ends_the_run(make_daemon, line, what):
    """The last metric but one is replaced while no daemon runs."""
    daemon = make_daemon(serve="none")
    client = daemon.client()
    run_id = shell(client, r"""for i in $(seq 1 20); do
        echo "{\"step\":$i,\"loss\":$i}" >> $SLIPWAY_DIR/metrics.jsonl; sleep 0.1; done""")

    def points():
        items = client.get(f"/api/v1/runs/{run_id}/metrics")["items"]
        return [p[0] for p in items[0]["points"]] if items else []

    wait_until(lambda: len(points()) >= 2)
    daemon.kill()
    directory = daemon.data / "runs" / run_id / "0"
    wait_until(lambda: (directory / "exit.json").exists(), what="the end of the program")
    lines = (directory / "intake.jsonl").read_bytes().splitlines(keepends=True)
    at = [i for i, text in enumerate(lines) if b'"metric"' in text][-2]
    lines[at] = line % json.loads(lines[at])["seq"] if b"%d" in line else line
    (directory / "intake.jsonl").write_bytes(b"".join(lines))
    daemon.start()
    run = ended(client, run_id)
    assert (run["state"], run["reason"]) == ("lost", "intake_corrupt"), run
    assert run["message"].startswith("node 0: ") and what in run["message"], run["message"]
    assert points() == list(range(1, 19))
    assert (directory / "intake.jsonl").read_bytes() == b"".join(lines)
    event = client.get("/api/v1/events", query={"subject": f"run/{run_id}"})["items"][-1]
    assert (event["type"], event["data"]["reason"]) == ("slipway.run.lost", "intake_corrupt")
    assert client.get("/api/v1/nodes")["items"][0]["holders"] == []
    assert ended(client, shell(client, "true"))["state"] == "succeeded"
