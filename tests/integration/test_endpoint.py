"""Endpoints: deploy, predict, roll back, and what happens when a process dies."""

import ctypes
import json
import os
import pathlib
import platform
import signal
import socket
import struct
import threading
import time

import pytest
from conftest import Client, processes_of, shares_of, tree, wait_until

ECHO = """
def init():
    print("loaded {mark}")

def predict(text):
    if text == "raise":
        raise ValueError("no such digit")
    return "{mark}:" + text
"""


@pytest.fixture
def push(cli, tmp_path):
    """push("one") makes the next version of test/echo, which answers "one:…"."""

    def push(mark, source=ECHO, model="test/echo"):
        directory = tmp_path / f"package-{mark}"
        directory.mkdir(exist_ok=True)
        (directory / "model.py").write_text(source.replace("{mark}", mark))
        return cli.json("model", "push", model, directory)["version"]

    return push


@pytest.fixture
def ask(daemon):
    """ask("hi") is the answer of the endpoint `echo`."""

    def ask(text="hi", timeout=30):
        return Client(daemon.serve_url, timeout=timeout).request("POST", "/predict/echo", body=text)

    return ask


def gateway(client):
    return client.get("/api/v1/gateway")


def live_pid(client):
    route = next(r for r in gateway(client)["endpoints"][0]["routes"] if r["weight"] > 0)
    return route["replicas"][0]["pid"]


def answers(ask, expected):
    try:
        reply = ask()
    except OSError:
        return False
    return reply.status == 200 and reply.body == expected


def test_deploy_predict_rollback(cli, push, ask):
    push("one")
    push("two")
    created = cli.json("endpoint", "create", "echo", "test/echo@1", "--public")
    assert created["live"] == {"version": 1, "code_weights": "1", "share": 100}
    assert created["deployment"]["state"] == "live"
    assert ask("hi").body == b"one:hi"

    deployed = cli.json("endpoint", "deploy", "echo", "2")
    assert (deployed["live"]["version"], deployed["standby"]["version"]) == (2, 1)
    assert ask("hi").body == b"two:hi"

    back = cli.json("endpoint", "rollback", "echo")
    assert (back["state"], back["version"], back["previous"]) == ("live", 1, 2)
    assert 0 < back["switch_us"] <= back["total_us"]
    assert ask("hi").body == b"one:hi"
    cli("endpoint", "rollback", "echo")
    assert ask("hi").body == b"two:hi"

    kinds = [d["kind"] for d in cli.json("endpoint", "show", "echo")["deployments"]]
    assert kinds == ["rollback", "rollback", "deploy", "deploy"]
    assert "loaded one" in cli("endpoint", "logs", "echo").stdout


def test_deploy_is_idempotent(cli, push):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    first = cli.json("endpoint", "show", "echo")["deployments"]
    cli("endpoint", "deploy", "echo", "1")
    assert cli.json("endpoint", "show", "echo")["deployments"] == first


def test_follows_its_alias(cli, push, ask):
    push("one")
    push("two")
    cli("model", "promote", "test/echo@1")
    cli("endpoint", "create", "echo", "test/echo@production", "--public")
    cli("model", "promote", "test/echo@2")
    wait_until(lambda: answers(ask, b"two:hi"), what="the promoted version's answer")
    wait_until(lambda: cli.json("endpoint", "show", "echo")["standby"], what="standby")
    cli("model", "rollback", "test/echo")
    wait_until(lambda: answers(ask, b"one:hi"), what="the earlier version's answer")
    # The other way round: the endpoint takes the alias with it.
    cli("endpoint", "rollback", "echo")
    assert ask().body == b"two:hi"
    assert cli.json("model", "show", "test/echo@production")["version"] == 2


def test_no_request_is_lost_by_deployments(cli, push, ask):
    push("one")
    push("two")
    cli("endpoint", "create", "echo", "test/echo@1", "--public", "--queue", "1000")
    bad, seen, stop = [], set(), threading.Event()

    def load():
        while not stop.is_set():
            reply = ask("hi")
            seen.add(reply.body)
            if reply.status != 200:
                bad.append((reply.status, reply.body))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        cli("endpoint", "deploy", "echo", "2")
        for _ in range(6):
            cli("endpoint", "rollback", "echo")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not bad
    assert seen == {b"one:hi", b"two:hi"}


@pytest.mark.parametrize(
    "source, message",
    [
        ("def init():\n    raise RuntimeError('no weights here')\n\ndef predict(t):\n    return t\n", "no weights here"),
        ("def init():\n    import sys\n    sys.exit(3)\n\ndef predict(t):\n    return t\n", ""),
        ("def init(:\n    pass\n\ndef predict(t):\n    return t\ndef init(): pass\n", ""),
    ],
)
def test_a_bad_version_does_not_replace_a_good_one(cli, push, ask, source, message):
    push("one")
    push("bad", source)
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    result = cli("endpoint", "deploy", "echo", "2", "--timeout", "90s", check=False)
    assert result.returncode == 4, result.stderr
    assert "could not be deployed" in result.stderr and message in result.stderr
    assert ask("hi").body == b"one:hi"
    shown = cli.json("endpoint", "show", "echo")
    assert (shown["live"]["version"], shown["next"]) == (1, None)
    assert shown["deployments"][0]["state"] == "failed"


def test_code_without_a_model_is_not_served(cli, client):
    # A run's code may be any program; it becomes a version, but it cannot be served.
    import io
    import zipfile

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("train.py", "print('hi')\n")
    digest = client.post("/api/v1/blobs", body=archive.getvalue())["digest"]
    reply = client.request("POST", "/api/v1/models/test/echo/versions", {"code": digest})
    assert (reply.status, reply.error) == (400, "invalid_argument")
    assert "model.py" in reply.json["error"]["message"]


def test_model_errors_are_answers(cli, push, ask):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    reply = ask("raise")
    assert 400 <= reply.status < 600 and b"no such digit" in reply.body
    assert ask("hi").body == b"one:hi"


def test_needs_a_token(cli, push, daemon):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1")
    assert Client(daemon.serve_url).request("POST", "/predict/echo", body="hi").status == 401
    assert Client(daemon.serve_url, token="nonsense").request("POST", "/predict/echo", body="hi").status == 401


def test_refusals(cli, push, client):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    assert cli("endpoint", "create", "echo", "test/echo@1", check=False).returncode == 4
    assert cli("endpoint", "create", "other", "test/nosuch", check=False).returncode == 3
    assert cli("endpoint", "create", "Bad Name", "test/echo", check=False).returncode == 2
    assert cli("endpoint", "rollback", "echo", check=False).returncode == 4
    assert cli("endpoint", "deploy", "echo", "9", check=False).returncode == 3
    removal = cli("model", "rm", "test/echo@1", check=False)
    assert removal.returncode == 4 and "endpoint echo" in removal.stderr
    reply = client.request("POST", "/api/v1/endpoints", {"name": "x", "model": "test/echo", "colour": 3})
    assert reply.status == 400 and "colour" in reply.json["error"]["message"]
    reply = client.request("POST", "/api/v1/endpoints", {"name": "x", "model": "test/echo", "options": {"replicas": 0}})
    assert reply.status == 400 and "replicas" in reply.json["error"]["message"]


def test_removal_ends_the_processes(cli, push, client, daemon):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    monitors = [json.loads(path.read_text())["pid"] for path in (daemon.data / "runs").rglob("monitor.json")]
    processes = tree(monitors)
    assert len(monitors) == 1 and len(processes) > 1
    cli("endpoint", "rm", "echo")
    wait_until(lambda: client.request("GET", "/api/v1/endpoints/echo").status == 404, what="removal")
    wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in processes), what="end of the replicas")
    wait_until(lambda: not processes_of(daemon.data / "runs"), what="end of what the command lines name")
    assert not list((daemon.data / "runs").iterdir())
    cli("model", "rm", "test/echo", "--all")


def test_killed_worker_comes_back(cli, push, ask, client):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    for _ in range(2):
        pid = live_pid(client)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: answers(ask, b"one:hi"), what="the next worker's answer")
        wait_until(lambda: live_pid(client) not in (None, pid), what="another pid")


def test_killed_gateway_comes_back(cli, push, ask, client):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    worker = live_pid(client)
    os.kill(gateway(client)["gateway"]["pid"], signal.SIGKILL)
    wait_until(lambda: answers(ask, b"one:hi"), what="the next gateway's answer")
    assert live_pid(client) == worker  # the model stayed loaded
    assert gateway(client)["gateway"]["restarts"] == 1


def test_serving_port_taken(make_daemon):
    """The daemon works without its gateway, says why it is not there, and starts it when the port is free."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "127.0.0.1:%d" % other.getsockname()[1]
        daemon = make_daemon(serve=address)
        client = daemon.client()
        problem = wait_until(lambda: client.get("/api/v1/status")["serve_problem"], what="the problem")
        assert f"another program listens on {address}" in problem
        assert f"another program listens on {address}" in daemon.log_text()
    wait_until(lambda: client.get("/api/v1/status")["serve_problem"] is None, what="the gateway")
    assert client.get("/api/v1/gateway")["gateway"]["state"] == "up"


def test_killed_daemon_is_not_noticed(cli, push, ask, daemon):
    push("one")
    push("two")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    cli("endpoint", "deploy", "echo", "2")
    before = gateway(daemon.client())["gateway"]["pid"], live_pid(daemon.client())
    bad, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            reply = ask("hi")
            if reply.status != 200:
                bad.append((reply.status, reply.body))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(3):
            daemon.kill()
            time.sleep(0.1)
            daemon.start()
    finally:
        stop.set()
        thread.join()
    assert not bad
    assert (gateway(daemon.client())["gateway"]["pid"], live_pid(daemon.client())) == before
    cli("endpoint", "rollback", "echo")
    assert ask("hi").body == b"one:hi"


def test_daemon_killed_during_deployment(cli, push, ask, daemon):
    push("one")
    push("two", "import time\n" + ECHO.replace("def init():", "def init():\n    time.sleep(1)"))
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    cli("endpoint", "deploy", "echo", "2", "--no-wait")
    time.sleep(0.3)
    daemon.kill()
    daemon.start()
    wait_until(lambda: answers(ask, b"two:hi"), what="the deployment's end")
    wait_until(lambda: cli.json("endpoint", "show", "echo")["deployments"][0]["state"] == "live", what="its record")


def test_rates_and_quotas(cli, push, daemon):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--rate", "0.01/s", "--burst", "3")
    assert "0.01 a second with a token, 3 at once" in cli("endpoint", "show", "echo").stdout
    secret = {name: cli("token", "create", name, "--scope", "predict:echo", *quota).stdout.strip()
              for name, quota in (("free", ()), ("two", ("--quota", "2/day")))}
    listed = {t["name"]: t for t in cli.json("token", "ls")}
    assert listed["two"]["quota"] == {"requests": 2, "window_ms": 86400000} and listed["free"]["quota"] is None
    assert "2 in 1d 00h" in cli("token", "ls").stdout

    def statuses(token, n):
        client = Client(daemon.serve_url, token=token)
        return [client.request("POST", "/predict/echo", body="hi").status for _ in range(n)]

    assert statuses(secret["two"], 3) == [200, 200, 429]
    assert statuses(secret["free"], 4) == [200, 200, 200, 429]
    cli("endpoint", "set", "echo", "--rate", "none")
    assert "Rate" not in cli("endpoint", "show", "echo").stdout
    wait_until(lambda: statuses(secret["free"], 5) == [200] * 5, what="no rate")
    # Short-lived tokens share the quota of the one that they were issued for.
    reply = Client(daemon.url).request(
        "POST", "/api/v1/oauth2/token", body=f"grant_type=client_credentials&client_id=two&client_secret={secret['two']}",
        headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert reply.status == 200, reply.body
    assert statuses(reply.json["access_token"], 1) == [429]


@pytest.mark.parametrize(
    "arguments, words",
    [(("endpoint", "create", "e", "test/echo@1", "--rate", "50"), "so many in a time"),
     (("endpoint", "create", "e", "test/echo@1", "--burst", "5"), "rate_burst"),
     (("endpoint", "create", "e", "test/echo@1", "--rate", "5/s", "--burst", "0.5"), "burst"),
     (("token", "create", "t", "--scope", "view", "--quota", "1.5/day"), "whole number"),
     (("token", "create", "t", "--scope", "view", "--quota", "5/100ms"), "window_ms"),
     (("token", "create", "t", "--scope", "view", "--quota", "5"), "so many in a time")],
)
def test_rates_and_quotas_that_are_refused(cli, push, arguments, words):
    push("one")
    result = cli(*arguments, check=False)
    assert result.returncode == 2 and words in result.stderr, result.stderr


def test_other_protocols(cli, push, daemon):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    client = Client(daemon.serve_url)

    def post(path, body):
        reply = client.request("POST", path, body)
        assert reply.status == 200, reply.body
        return reply.json

    assert post("/v1/models/echo:predict", {"instances": ["a", [1, 2]]}) == {"predictions": ["one:a", "one:[1,2]"]}
    assert post("/v1/models/test%2Fecho/versions/1:predict", {"inputs": {"text": ["a"]}}) == {"outputs": ["one:a"]}
    assert post("/invocations", {"dataframe_split": {"columns": ["a"], "data": [[1]]}}) == {"predictions": ['one:{"a":1}']}
    assert client.request("GET", "/openapi.json").json["info"]["title"] == "Slipway serving"


# -- processors --


def slice_of(pid):
    """How long a turn of a process is, ns (sched_getattr); 0: its kernel does not say."""
    attributes = ctypes.create_string_buffer(48)
    numbers = {"x86_64": 315, "aarch64": 275}
    assert ctypes.CDLL(None).syscall(numbers[platform.machine()], pid, attributes, 48, 0) == 0
    return struct.unpack("IIQiIQQQ", attributes.raw)[5]


def test_starting_replica_gives_way(cli, push, client):
    """Beside one that serves it has a tenth of its right to processors, until requests wait for it."""
    push("one")
    push("two", ECHO.replace("def init():", "def init():\n    import time\n    time.sleep(4)"))
    cli("endpoint", "create", "echo", "test/echo@1", "--public")

    def replicas():
        return {r["version"]: r for r in client.get("/api/v1/endpoints/echo")["replicas"]}

    first = replicas()[1]["id"]
    whole = shares_of(first)
    cli("endpoint", "deploy", "echo", "2", "--no-wait")
    wait_until(lambda: 2 in replicas() and replicas()[2]["state"] == "warming", what="the second to load")
    second = replicas()[2]["id"]
    assert shares_of(second) == (102 if whole == 1024 else 1 + 100 * 9999 // 262142)
    wait_until(lambda: replicas()[2]["state"] == "ready", what="the second to be ready")
    assert shares_of(second) == shares_of(first) == whole


def test_who_answers_asks_for_short_turns(cli, push, client):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    new = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2]) >= (6, 12)
    for pid in (gateway(client)["gateway"]["pid"], live_pid(client)):
        assert slice_of(pid) == (100000 if new else 0)
