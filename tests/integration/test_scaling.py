"""Replicas that follow the load: more, fewer, none, and options that change while requests come."""

import threading
import time

import pytest
from conftest import Client, wait_until

SLOW = """
import time

def init():
    pass

def predict(text):
    time.sleep(float(text))
    return text
"""


@pytest.fixture
def push(cli, tmp_path):
    """push() makes a version of test/slow, which takes as many seconds as the request says."""

    def push(source=SLOW):
        directory = tmp_path / "package"
        directory.mkdir(exist_ok=True)
        (directory / "model.py").write_text(source)
        return cli.json("model", "push", "test/slow", directory)["version"]

    return push


@pytest.fixture
def ask(daemon):
    def ask(text="0", timeout=60, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return Client(daemon.serve_url, timeout=timeout).request("POST", "/predict/slow", body=text, headers=names)

    return ask


class Load:
    """Several threads that ask without a pause: `with Load(ask, 4) as load: …`; load.bad are the refused requests."""

    def __init__(self, ask, threads, text="0.02"):
        self.ask, self.text, self.bad, self.count, self.stop = ask, text, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        while not self.stop.is_set():
            reply = self.ask(self.text)
            self.count += 1
            if reply.status != 200:
                self.bad.append((reply.status, reply.body))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def show(cli):
    return cli.json("endpoint", "show", "slow")


def states(cli):
    return sorted(r["state"] for r in show(cli)["replicas"])


def events(client, kind):
    return [e["data"] for e in client.get("/api/v1/events", query={"limit": 1000})["items"] if e["type"] == f"slipway.endpoint.{kind}"]


def is_asleep(cli):
    shown = show(cli)
    return shown["replicas"] == [] and shown["scaling"]["wished"] == 0 and shown


def test_load_brings_replicas_and_quiet_takes_them(cli, client, push, ask):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--replicas", "1..3", "--scale-queue-time", "5ms",
        "--scale-down-after", "500ms")
    with Load(ask, 8) as load:
        wait_until(lambda: states(cli).count("ready") == 3, what="three replicas")
    assert not load.bad
    wait_until(lambda: states(cli) == ["ready"], what="one replica again")

    changes = events(client, "scaled")
    assert {c["version"] for c in changes} == {1}
    assert [c["reason"] for c in changes] == sorted((c["reason"] for c in changes), key=["queue_time", "slack"].index)
    assert [c["to"] for c in changes][-1] == 1 and max(c["to"] for c in changes) == 3
    for change in changes:
        if change["reason"] == "queue_time":
            assert change["to"] > change["from"] and change["queue_time_ms"] > 5 and change["ready"] == change["from"]
        else:
            assert change["to"] == change["from"] - 1 and change["queue_time_ms"] <= 2.5
    shown = show(cli)
    assert shown["scaling"]["decision"] == {**changes[-1], "time": shown["scaling"]["decision"]["time"]}
    assert "1 to 3" in cli("endpoint", "show", "slow").stdout


def test_idle_ends_the_last_replica_and_a_request_starts_it(cli, client, push, ask, daemon):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--replicas", "0..2", "--idle", "300ms")
    wait_until(lambda: is_asleep(cli), what="no replica")
    shown = show(cli)
    assert shown["state"] == "ready" and shown["scaling"]["decision"]["reason"] == "idle"
    assert "ready (idle)" in cli("endpoint", "ls").stdout

    # It can serve, and asking whether it can does not start it.
    serving = Client(daemon.serve_url)
    for path in ("/v2/models/slow/ready", "/v2/models/slow/versions/1/ready", "/v2/health/ready", "/health"):
        assert serving.request("GET", path).status == 200, path
    assert serving.request("GET", "/v2/models/slow").status == 200
    time.sleep(0.3)
    assert is_asleep(cli)

    reply = ask("0")
    assert (reply.status, reply.body) == (200, b"0")
    waited = int(reply.headers["slipway-cold-start-ms"])
    assert waited > 0
    assert "slipway-cold-start-ms" not in ask("0").headers
    wait_until(lambda: [c["version"] for c in events(client, "cold_start")] == [1], what="the event")
    scaling = show(cli)["scaling"]
    assert scaling["cold_starts"] == 1 and scaling["cold_start_ms"] >= waited
    assert 'slipway_cold_start_seconds_count{endpoint="slow",version="1"} 1' in serving.request("GET", "/metrics").body.decode()
    assert "Cold starts" in cli("endpoint", "show", "slow").stdout

    # All that wait for the one start get their answer.
    wait_until(lambda: is_asleep(cli), what="no replica again")
    with Load(ask, 6, "0.01") as load:
        wait_until(lambda: load.count >= 60, what="sixty answers")
    assert not load.bad
    wait_until(lambda: show(cli)["scaling"]["cold_starts"] == 2, what="the second cold start's record")


def test_a_request_in_flight_keeps_its_replica(cli, client, push, ask):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--replicas", "0..1", "--idle", "100ms")
    reply = ask("1.5")
    assert (reply.status, reply.body) == (200, b"1.5")


def test_waiting_for_the_first_replica_has_an_end(cli, client, push, ask, daemon):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--replicas", "0..1", "--idle", "200ms")
    wait_until(lambda: is_asleep(cli), what="no replica")
    daemon.kill()
    reply = ask("0", Slipway_Timeout_Ms="300")
    assert reply.status == 504 and "the daemon that starts them is away" in reply.json["error"]["message"]

    # One that is more patient gets its answer from the next daemon.
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask("0")))
    thread.start()
    time.sleep(0.3)
    assert not answers
    daemon.start()
    thread.join()
    assert (answers[0].status, answers[0].body) == (200, b"0")
    assert "slipway-cold-start-ms" in answers[0].headers
    wait_until(lambda: is_asleep(cli), what="no replica again")


def test_a_restarted_daemon_goes_on_at_the_same_size(cli, push, ask, daemon):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--replicas", "0..3", "--scale-queue-time", "5ms",
        "--scale-down-after", "1h", "--idle", "1h")
    with Load(ask, 8) as load:
        wait_until(lambda: states(cli).count("ready") == 3, what="three replicas")
        daemon.kill()
        daemon.start()
        assert show(cli)["scaling"]["wished"] == 3
        wait_until(lambda: states(cli) == ["ready"] * 3, what="the same three")
    assert not load.bad
    cli("endpoint", "set", "slow", "--idle", "100ms")
    wait_until(lambda: is_asleep(cli), what="no replica")
    daemon.kill()
    daemon.start()
    assert is_asleep(cli)
    assert ask("0").status == 200


def test_options_change_while_requests_come(cli, client, push, ask):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--queue", "1000")
    assert show(cli)["options"]["replicas"] == 1
    with Load(ask, 4, "0.005") as load:
        changed = cli.json("endpoint", "set", "slow", "--replicas", "3", "--deadline", "20s")
        assert (changed["options"]["replicas"], changed["options"]["timeout_ms"]) == (3, 20000)
        wait_until(lambda: states(cli).count("ready") == 3, what="three replicas")
        cli("endpoint", "set", "slow", "--replicas", "1")
        wait_until(lambda: states(cli) == ["ready"], what="one replica")
        cli("endpoint", "set", "slow", "--min-replicas", "2", "--max-replicas", "2")
        wait_until(lambda: states(cli) == ["ready"] * 2, what="two replicas")
        changed = cli.json("endpoint", "set", "slow", "--replicas", "1..2", "--scale-queue-time", "1h",
                           "--scale-down-after", "200ms")
        assert changed["options"]["min_replicas"] == 1 and "replicas" not in changed["options"]
        cli("endpoint", "set", "slow", "--concurrency", "1", "--queue", "500")
    assert not load.bad and load.count
    wait_until(lambda: states(cli) == ["ready"], what="one replica at last")
    changed = events(client, "changed")
    assert len(changed) == 5 and changed[0]["options"]["replicas"] == 3


def test_other_limits_replace_the_replicas_one_by_one(cli, push, ask, daemon):
    push()
    cli("endpoint", "create", "slow", "test/slow", "--public", "--replicas", "2", "--queue", "1000")
    wait_until(lambda: states(cli) == ["ready"] * 2, what="two replicas")
    before = {r["id"] for r in show(cli)["replicas"]}
    with Load(ask, 4, "0.005") as load:
        cli("endpoint", "set", "slow", "--memory", "512M")
        wait_until(lambda: states(cli) == ["ready"] * 2 and not before & {r["id"] for r in show(cli)["replicas"]}, what="two others")
    assert not load.bad and load.count
    after = {r["id"] for r in show(cli)["replicas"]}
    daemon.kill()
    daemon.start()
    cli("endpoint", "set", "slow", "--queue", "999")
    wait_until(lambda: states(cli) == ["ready"] * 2, what="the same two")
    assert {r["id"] for r in show(cli)["replicas"]} == after


def test_private_and_public(cli, push, ask):
    push()
    cli("endpoint", "create", "slow", "test/slow")
    assert ask().status == 401
    cli("endpoint", "set", "slow", "--public")
    wait_until(lambda: ask().status == 200, what="an answer without a token")
    cli("endpoint", "set", "slow", "--private")
    wait_until(lambda: ask().status == 401, what="no answer without one")


def test_a_deployment_comes_at_the_size_of_the_present_one(cli, push, ask):
    push()
    push(SLOW + "\n# another\n")
    cli("endpoint", "create", "slow", "test/slow@1", "--public", "--replicas", "1..3", "--scale-queue-time", "5ms",
        "--scale-down-after", "1h", "--queue", "1000")
    with Load(ask, 8) as load:
        wait_until(lambda: states(cli).count("ready") == 3, what="three replicas")
        cli("endpoint", "deploy", "slow", "2")
        assert sum(r["version"] == 2 for r in show(cli)["replicas"]) == 3
    assert not load.bad


def test_the_standby_is_there_while_the_live_version_is(cli, client, push, ask):
    push()
    push(SLOW + "\n# another\n")
    cli("endpoint", "create", "slow", "test/slow@1", "--public", "--replicas", "0..1", "--idle", "3s", "--queue", "1000")

    def standby():
        shown = show(cli)
        return [r["state"] for r in shown["replicas"] if r["version"] == shown["standby"]["version"]]

    with Load(ask, 2, "0.01") as load:
        cli("endpoint", "deploy", "slow", "2")
        time.sleep(4.5)  # longer than it may be idle
        assert standby() == ["ready"]
        cli("endpoint", "rollback", "slow")
        time.sleep(0.3)
        assert show(cli)["live"]["version"] == 1
    assert not load.bad
    assert not events(client, "cold_start")
    wait_until(lambda: show(cli)["replicas"] == [], what="no replica of either")
    assert ask("0").status == 200
    wait_until(lambda: events(client, "cold_start"), what="the cold start's event")
    assert standby() == []  # nobody asked for that one


@pytest.mark.parametrize(
    "options, word",
    [
        (("--min-replicas", "4", "--max-replicas", "2"), "max_replicas 2"),
        (("--replicas", "3..2"), "max_replicas 2"),
        (("--replicas", "0..0"), "--replicas"),
        (("--replicas", "a..b"), "--replicas"),
        (("--replicas", "0"), "replicas"),
        (("--scale-queue-time", "0"), "scale_queue_time_ms"),
    ],
)
def test_refusals(cli, push, options, word):
    push()
    result = cli("endpoint", "create", "slow", "test/slow", "--no-wait", *options, check=False)
    assert result.returncode == 2 and word in result.stderr, result.stderr
    cli("endpoint", "create", "slow", "test/slow", "--no-wait")
    result = cli("endpoint", "set", "slow", *options, check=False)
    assert result.returncode == 2 and word in result.stderr, result.stderr
    assert cli("endpoint", "set", "slow", check=False).returncode == 2
    assert cli("endpoint", "set", "none", "--queue", "1", check=False).returncode == 3
