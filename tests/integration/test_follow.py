"""Following a run by WebSocket: whatever cuts the stream, nothing is lost and nothing comes twice."""

import contextlib
import json
import random
import signal
import socket
import subprocess

import pytest
from conftest import BINARY, UNDER, wait_until
from test_runs import ended, log_of, shell, submit
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

LINES = 400

# Log lines on both streams, one without an end, metrics of three names a line, two attempts.
PROGRAM = f"""
import json, os, sys, time
attempt = int(os.environ["SLIPWAY_ATTEMPT"])
with open(os.environ["SLIPWAY_DIR"] + "/metrics.jsonl", "a", buffering=1) as metrics:
    for i in range({LINES}):
        print(attempt, i, "ä", file=sys.stderr if i % 3 == 0 else sys.stdout, flush=True)
        metrics.write(json.dumps({{"step": i, "a": i, "b": -i, "c": attempt}}) + "\\n")
        if i % 50 == 0:
            time.sleep(float(os.environ.get("SLIPWAY_PARAM_PAUSE", "0.02")))
print("no end of line", end="", flush=True)
sys.exit(1 if attempt == 1 else 0)
"""


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(serve="none")


@pytest.fixture
def client(daemon):
    return daemon.client()


class Follower:
    """Keeps what it has seen; go() follows from there, at most `messages` messages, until the stream ends."""

    def __init__(self, daemon, run_id, what="follow"):
        self.daemon, self.path = daemon, f"/api/v1/runs/{run_id}/{what}"
        self.attempt, self.offset, self.sequence = 1, 0, 0
        self.log, self.metrics, self.states = [], [], []
        self.ended = False

    def take(self, message):
        if message["type"] == "state":
            self.states.append((message["run"]["state"], message["run"]["attempt"]))
            return
        if message["attempt"] != self.attempt:
            self.attempt, self.offset, self.sequence = message["attempt"], 0, 0
        if message["type"] == "log":
            assert message["offset"] > self.offset
            self.offset = message["offset"]
            self.log.append((message["attempt"], message["stream"], message["text"]))
        else:
            assert message["sequence"] > self.sequence
            self.sequence = message["sequence"]
            self.metrics.append((message["attempt"], message["values"]))

    def go(self, messages=None):
        uri = f"ws://localhost{self.path}?attempt={self.attempt}&after={self.offset}&metrics_after={self.sequence}"
        try:
            with unix_connect(str(self.daemon.data / "slipway.sock"), uri=uri, max_size=None, max_queue=None, close_timeout=2) as ws:
                while messages is None or messages > 0:
                    self.take(json.loads(ws.recv(timeout=60)))
                    messages = None if messages is None else messages - 1
                with contextlib.suppress(OSError):
                    ws.socket.shutdown(socket.SHUT_RDWR)  # no goodbye
        except ConnectionClosed as closed:
            self.ended = closed.rcvd is not None and closed.rcvd.code == 1000
        return self

    def check_all(self):
        for attempt in (1, 2):
            values = [v for a, v in self.metrics if a == attempt]
            assert values == [{"step": i, "a": i, "b": -i, "c": attempt} for i in range(LINES)]
            for stream, wanted in (("stderr", [i for i in range(LINES) if i % 3 == 0]),
                                   ("stdout", [i for i in range(LINES) if i % 3])):
                lines = [text for a, s, text in self.log if (a, s) == (attempt, stream)]
                end = ["no end of line"] if stream == "stdout" else []
                assert lines == [f"{attempt} {i} ä" for i in wanted] + end


def start(client, **fields):
    return submit(client, "python3", "-c", PROGRAM, retries=1, **fields)


def test_to_the_end_while_it_runs(daemon, client):
    run_id = start(client)
    follower = Follower(daemon, run_id).go()
    assert follower.ended
    follower.check_all()
    assert follower.states[-1] == ("succeeded", 2)
    assert ("running", 1) in follower.states


@pytest.mark.parametrize("seed", range(2))
def test_cut_anywhere(daemon, client, seed):
    """Cut after every few messages, live and afterwards."""
    cuts = random.Random(seed)
    run_id = start(client)
    follower = Follower(daemon, run_id)
    while not follower.ended:
        follower.go(cuts.choice((0, 1, 2, 7, 50, 333)))
        if cuts.random() < 0.02:
            ended(client, run_id)
    follower.check_all()


def test_over_restarts_of_the_daemon(daemon, client):
    run_id = start(client, parameters={"pause": 0.4})
    follower = Follower(daemon, run_id)
    for i in range(3):
        follower.go(150)
        daemon.kill() if i % 2 else daemon.stop()
        daemon.start()
    while not follower.ended:
        follower.go()
    follower.check_all()
    assert follower.states[-1] == ("succeeded", 2)


def test_log_alone_and_metrics_alone(daemon, client):
    run_id = start(client)
    log, metrics = Follower(daemon, run_id, "nodes/0/log/follow"), Follower(daemon, run_id, "metrics/follow")
    while not log.ended:
        log.go(111)
    while not metrics.ended:
        metrics.go(77)
    assert not log.metrics and not metrics.log and not log.states and not metrics.states
    log.metrics = metrics.metrics
    log.check_all()


def test_many_metrics_of_many_names(daemon, client):
    """Lines whose points do not fit into one page as a whole."""
    run_id = shell(client, """python3 - <<'END'
import json, os
with open(os.environ["SLIPWAY_DIR"] + "/metrics.jsonl", "a") as metrics:
    for i in range(3000):
        metrics.write(json.dumps({"step": i, **{f"m{k}": i + k for k in range(7)}}) + "\\n")
END""")
    ended(client, run_id)
    follower = Follower(daemon, run_id, "metrics/follow").go()
    assert follower.ended
    assert [v for _, v in follower.metrics] == [{"step": i, **{f"m{k}": i + k for k in range(7)}} for i in range(3000)]


def test_last_lines_only(daemon, client):
    run_id = shell(client, "seq 1 1000")
    ended(client, run_id)
    uri = f"ws://localhost/api/v1/runs/{run_id}/nodes/0/log/follow?tail=3"
    with unix_connect(str(daemon.data / "slipway.sock"), uri=uri) as ws:
        assert [json.loads(ws.recv(timeout=20))["text"] for _ in range(3)] == ["998", "999", "1000"]
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=20)


def test_bytes_that_are_not_text(daemon, client):
    run_id = shell(client, r"printf 'a\377b\000c\nnext\n'")
    ended(client, run_id)
    follower = Follower(daemon, run_id).go()
    assert [text for _, _, text in follower.log] == ["aÿb\0c", "next"]


def test_the_program_follows_over_restarts(daemon, client, environment, tmp_path):
    """`runs follow` in another process: its output is the log, once, whatever the daemon does meanwhile."""
    run_id = shell(client, "for i in $(seq 1 60); do echo line $i; sleep 0.05; done")
    process = subprocess.Popen([*UNDER, BINARY, "--data", daemon.data, "runs", "logs", run_id, "--follow"], env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):
        wait_until(lambda: client.get(f"/api/v1/runs/{run_id}")["state"] == "running")
        daemon.kill()
        daemon.start()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "".join(f"line {i}\n" for i in range(1, 61))
    assert log_of(client, run_id) == out


def test_interrupt_leaves_the_run_going(daemon, client, environment):
    run_id = shell(client, "echo here; sleep 600")
    process = subprocess.Popen([*UNDER, BINARY, "--data", daemon.data, "runs", "follow", run_id], env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"run {run_id} goes on; follow it again with 'slipway runs follow {run_id[:12]}'" in err
    assert client.get(f"/api/v1/runs/{run_id}")["state"] == "running"
