"""Logged requests of an endpoint: from the gateway into the vault, once, and from there to who may read them."""

import json
import os
import signal
import sqlite3
import threading
import time

import jsonschema
import pytest
from conftest import Client, wait_until

ECHO = """
def init():
    pass

def predict(text):
    if text == "raise":
        raise ValueError("no such digit")
    return "{mark}:" + text
"""

# CloudEvents 1.0, appendix A of its JSON format, as far as these events go.
CLOUDEVENT = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "specversion": {"const": "1.0"},
        "type": {"const": "slipway.request"},
        "datacontenttype": {"const": "application/json"},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "data": {"type": "object", "required": ["protocol", "outcome", "latency_ms"]},
    },
}


@pytest.fixture
def push(cli, tmp_path):
    def push(mark, source=ECHO):
        directory = tmp_path / f"package-{mark}"
        directory.mkdir(exist_ok=True)
        (directory / "model.py").write_text(source.replace("{mark}", mark))
        return cli.json("model", "push", "test/echo", directory)["version"]

    return push


@pytest.fixture
def endpoint(cli, push):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public", "--log-sample", "1")


@pytest.fixture
def ask(daemon):
    return lambda text: Client(daemon.serve_url, timeout=30).request("POST", "/predict/echo", body=text.encode())


def texts(events):
    return [e["data"]["request"]["text"] for e in events]


def everything(cli, tmp_path):
    """Through --output; every line a valid event."""
    file = tmp_path / "all.jsonl"
    cli("endpoint", "requests", "echo", "--output", file)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for event in events:
        jsonschema.Draft202012Validator(CLOUDEVENT).validate(event)
    assert len({e["id"] for e in events}) == len(events)
    return events


def pages(client, limit):
    """The events of one page after the other."""
    after = {}
    while after is not None:
        page = client.get("/api/v1/endpoints/echo/requests", query={"limit": limit, **after})
        yield page["items"]
        after = {"after": page["next"]} if page["next"] else None


def segments(daemon):
    return sorted(p.name for p in (daemon.data / "gateway" / "requests").iterdir())


def gateway_pid(client):
    return client.get("/api/v1/gateway")["gateway"]["pid"]


def test_what_was_just_sent_is_seen(cli, endpoint, ask, tmp_path, daemon):
    assert "no request was logged" in cli("endpoint", "requests", "echo").stdout
    assert ask("grün").status == 200
    assert ask("raise").status == 500
    seen = cli.json("endpoint", "requests", "echo")
    assert [(e["data"]["status"], e["data"]["outcome"]) for e in seen] == [(200, "ok"), (500, "model_error")]
    assert seen[0]["data"]["response"]["text"] == "one:grün" and seen[0]["source"] == "/endpoints/echo"
    assert seen[0]["subject"] == seen[0]["data"]["version"] == "1" and seen[0]["data"]["code_weights"] == "1"
    table = cli("endpoint", "requests", "echo").stdout
    assert "grün" in table and "one:grün" in table and "model_error" in table
    assert texts(cli.json("endpoint", "requests", "echo", "--outcome", "model_error")) == ["raise"]
    assert cli.json("endpoint", "requests", "echo", "--model-version", "2") == []
    assert len(cli.json("endpoint", "requests", "echo", "--model-version", "1")) == 2
    assert texts(cli.json("endpoint", "requests", "echo", "--lines", "1")) == ["raise"]
    assert everything(cli, tmp_path) == seen
    assert segments(daemon) == []  # taken, and nothing is open


def test_pages(cli, endpoint, ask, client, tmp_path):
    for i in range(4):
        for k in range(3):
            ask(f"{i}.{k}")
        cli("endpoint", "requests", "echo")  # closes a segment
    want = [f"{i}.{k}" for i in range(4) for k in range(3)]
    assert texts(e for page in pages(client, 5) for e in page) == want == texts(everything(cli, tmp_path))
    assert texts(client.get("/api/v1/endpoints/echo/requests", query={"lines": 5})["items"]) == want[-5:]
    for query in ({"lines": 1001}, {"lines": -1}, {"after": "x"}, {"after": "1.x"}, {"after": "1.2"}, {"after": "1.2.3.4"}):
        assert client.request("GET", "/api/v1/endpoints/echo/requests", query=query).status == 400
    assert client.request("GET", "/api/v1/endpoints/other/requests").status == 404


def test_pages_end_with_what_there_was(cli, endpoint, ask, client):
    """Or who reads slower than others write would never come to an end."""
    for i in range(4):
        ask(f"{i}")
    cli("endpoint", "requests", "echo")  # closes a segment
    got = []
    for page in pages(client, 1):
        got += texts(page)
        if len(got) < 4:
            ask("later")
            cli("endpoint", "requests", "echo")
    assert got == ["0", "1", "2", "3"]
    assert texts(client.get("/api/v1/endpoints/echo/requests")["items"]) == [*got, *["later"] * 3]


def test_options(cli, push, ask):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")
    assert ask("before").status == 200
    assert cli.json("endpoint", "requests", "echo") == []
    cli("endpoint", "set", "echo", "--log-sample", "1", "--log-body", "4")
    assert "a part of 1, 4 B of each" in cli("endpoint", "show", "echo").stdout

    def logged():
        ask("abcdef")
        return cli.json("endpoint", "requests", "echo")

    data = wait_until(logged, what="a logged request")[-1]["data"]
    assert data["request"] == {"size": 6, "truncated": True, "text": "abcd"}
    for arguments in (("--log-sample", "1.5"), ("--log-body", "65K")):
        assert cli("endpoint", "set", "echo", *arguments, check=False).returncode == 2


def test_who_may_read(cli, endpoint, ask, daemon):
    ask("secret")
    scopes = {"view": 403, "predict:echo": 403, "develop": 200}
    for i, (scope, status) in enumerate(scopes.items()):
        token = cli("token", "create", f"t{i}", "--scope", scope).stdout.strip()
        reply = Client(daemon.url, token=token).request("GET", "/api/v1/endpoints/echo/requests")
        assert reply.status == status and (b"secret" in reply.body) == (status == 200)


def test_the_client_is_named_and_its_token_is_not(cli, push, daemon):
    push("one")
    cli("endpoint", "create", "echo", "test/echo@1", "--log-sample", "1")
    token = cli("token", "create", "alice", "--scope", "predict:echo").stdout.strip()
    assert Client(daemon.serve_url, token=token).request("POST", "/predict/echo", body="hi").status == 200
    (event,) = cli.json("endpoint", "requests", "echo")
    assert event["data"]["client"] == "alice" and token not in json.dumps(event)


def test_killed_gateway_and_daemon_lose_and_double_nothing(cli, endpoint, ask, client, daemon, tmp_path):
    sent, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                if ask(f"n{len(sent)}").status == 200:
                    sent.append(f"n{len(sent)}")
            except OSError:
                pass
            time.sleep(0.01)  # what is written must not outrun who reads all of it, however slow the build

    def kill_gateway():
        pid = gateway_pid(daemon.client())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: daemon.client().get("/api/v1/gateway")["gateway"]["state"] == "up", what="the next gateway")

    def restart():
        daemon.kill()
        time.sleep(0.1)
        daemon.start()

    thread = threading.Thread(target=load)
    thread.start()
    seen, floor = set(), 0  # what was once read; sent from there on, all of it must be there
    try:
        for harm in (restart, kill_gateway, restart, restart, kill_gateway, restart):
            time.sleep(0.3)
            count = len(sent)
            got = set(texts(everything(cli, tmp_path)))  # closes what is open
            assert seen <= got and set(sent[floor:count]) <= got
            seen = got
            harm()
            if harm is kill_gateway:  # it lost what was in no closed segment
                floor = len(sent)
    finally:
        stop.set()
        thread.join()
    wait_until(lambda: ask("last").status == 200, what="the last answer")
    got = texts(everything(cli, tmp_path))
    assert got[-1] == "last" and seen <= set(got) and set(sent[floor:]) <= set(got) and len(seen) > 20


def test_closed_while_the_daemon_is_away(cli, endpoint, ask, daemon, tmp_path, client):
    """What the gateway closed, and what a killed gateway left open, is taken by the next daemon, once."""
    for i in range(5):
        ask(f"n{i}")
    pid = gateway_pid(client)
    directory = daemon.data / "gateway" / "requests"
    wait_until(lambda: any(p.stat().st_size > 1500 for p in directory.iterdir()), what="the lines in the file")
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    (open_one,) = directory.iterdir()
    assert open_one.suffix == ".part"
    whole = open_one.read_bytes()
    open_one.write_bytes(whole + whole[: len(whole) // 7])  # half a line, of a write that was cut off
    daemon.start()
    wait_until(lambda: segments(daemon) == [], what="the segment to be taken")
    assert texts(everything(cli, tmp_path)) == [f"n{i}" for i in range(5)]
    # The same segment again, as after a death between its row and its end: nothing changes.
    open_one.with_suffix(".jsonl").write_bytes(whole)
    assert texts(everything(cli, tmp_path)) == [f"n{i}" for i in range(5)]
    assert segments(daemon) == []


def test_strange_files_are_not_taken(cli, endpoint, ask, daemon, tmp_path):
    ask("hi")
    directory = daemon.data / "gateway" / "requests"
    secret = tmp_path / "secret"
    secret.write_text("root:x\n")
    name = "0190000000007000800000000000000"
    (directory / f"{name}1.jsonl").symlink_to(secret)
    (directory / f"{name}2.jsonl").write_text("no JSON\n")
    os.mkfifo(directory / f"{name}3.jsonl")
    (directory / f"{name}4.jsonl").write_bytes(b"")
    event = everything(cli, tmp_path)[0]
    (directory / f"{name}5.jsonl").write_text(json.dumps({**event, "source": "/endpoints/other"}) + "\n")
    (directory / f"{name}6.jsonl").write_text(json.dumps({**event, "time": "2020-01-01T00:00:00.000Z"}) + "\n")
    assert texts(everything(cli, tmp_path)) == ["hi"]
    assert segments(daemon) == [] and secret.read_text() == "root:x\n"


def test_removed_with_the_endpoint(cli, endpoint, ask, client, daemon):
    ask("hi")
    assert len(cli.json("endpoint", "requests", "echo")) == 1
    with sqlite3.connect(f"file:{daemon.data}/slipway.db?mode=ro", uri=True) as db:
        ((digest,),) = db.execute("SELECT digest FROM request_segments")
    assert cli.json("gc", "--grace", "0s")["removed"] == []
    assert "echo segment 1" in cli("blob", "why", digest).stdout
    cli("endpoint", "rm", "echo")
    wait_until(lambda: client.request("GET", "/api/v1/endpoints/echo").status == 404, what="removal")
    freed = []
    wait_until(lambda: freed.extend(cli.json("gc", "--grace", "0s")["removed"]) or freed, what="the blob to be freed")
    assert [blob["digest"] for blob in freed] == [digest]
    # A new endpoint of that name begins with none.
    cli("endpoint", "create", "echo", "test/echo@1", "--public", "--log-sample", "1")
    assert cli.json("endpoint", "requests", "echo") == []


def test_the_newest_are_kept(cli, endpoint, ask, client, daemon):
    """64 MiB of segments and 1,024 of them: more is written here by hand."""

    def log(text):
        ask(text)
        return texts(client.get("/api/v1/endpoints/echo/requests", query={"limit": 1000})["items"])

    def change(sql):
        with sqlite3.connect(daemon.data / "slipway.db", timeout=30) as db:
            db.execute(sql)

    for i in range(4):
        assert log(f"n{i}")[-1] == f"n{i}"
    change("UPDATE request_segments SET bytes = 64 << 20 WHERE id = 2")
    assert log("n4") == ["n1", "n2", "n3", "n4"]
    assert len(cli.json("gc", "--grace", "0s")["removed"]) == 1
    # A cursor into what is gone goes on with the oldest that is there.
    page = client.get("/api/v1/endpoints/echo/requests", query={"after": "1.0.4", "limit": 2})
    assert texts(page["items"]) == ["n1", "n2"]
    change(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1021) "
        "INSERT INTO request_segments (endpoint, digest, lines, first_at, last_at, bytes) "
        "SELECT endpoint, printf('sha256:%064x', i), 1, first_at, last_at, 1 FROM request_segments, n WHERE id = 5"
    )
    assert log("n5") == ["n3", "n4", "n5"]


def test_who_goes_on_reading_closes_nothing(cli, endpoint, ask, client, daemon):
    ask("a")
    ask("b")
    page = client.get("/api/v1/endpoints/echo/requests", query={"limit": 1})
    ask("c")
    page = client.get("/api/v1/endpoints/echo/requests", query={"limit": 5, "after": page["next"]})
    assert texts(page["items"]) == ["b"] and page["next"] is None
    assert texts(cli.json("endpoint", "requests", "echo")) == ["a", "b", "c"]
