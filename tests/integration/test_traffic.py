"""Versions beside the live one: canaries, their shares and their ends."""

import collections
import json
import os
import signal
import time

import pytest
from conftest import Client, wait_until

ECHO = """
import time

def init():
    {init}

def predict(text):
    if text == "fail":
        {fail}
    return "{mark}:" + text
"""


@pytest.fixture
def push(cli, tmp_path):
    """push("one") makes the next version of test/echo, which answers "one:…"."""

    def push(mark, init="pass", fail="pass"):
        directory = tmp_path / f"package-{mark}"
        directory.mkdir(exist_ok=True)
        text = ECHO.replace("{mark}", mark).replace("{init}", init).replace("{fail}", fail)
        (directory / "model.py").write_text(text)
        return cli.json("model", "push", "test/echo", directory)["version"]

    return push


@pytest.fixture
def ask(daemon):
    def ask(text="hi", headers=None):
        return Client(daemon.serve_url, timeout=30).request("POST", "/predict/echo", body=text, headers=headers)

    return ask


@pytest.fixture
def counts(ask):
    """counts(100): answers of so many requests, by the version that gave them."""

    def counts(n, headers=None):
        replies = [ask("hi", headers) for _ in range(n)]
        assert {reply.status for reply in replies} == {200}
        return collections.Counter(reply.body.decode().partition(":")[0] for reply in replies)

    return counts


@pytest.fixture
def show(cli):
    return lambda: cli.json("endpoint", "show", "echo")


@pytest.fixture
def two(cli, push):
    """Version 1 is live, version 2 is there."""
    push("one")
    push("two")
    cli("endpoint", "create", "echo", "test/echo@1", "--public")


def is_shared(counter, **expected):
    """An even spread: in any stretch of requests a share is missed by a few at most."""
    assert counter.keys() <= expected.keys(), counter
    assert all(abs(counter[name] - count) <= 3 for name, count in expected.items()), (counter, expected)


def ready_pid(client, version):
    routes = client.get("/api/v1/gateway")["endpoints"][0]["routes"]
    replica = next(route for route in routes if route["version"] == version)["replicas"][0]
    return replica["pid"] if replica["state"] == "ready" else None


def numbers(shown):
    return {role: (shown[role] or {}).get("version") for role in ("live", "canary", "shadow", "standby", "next")}


def test_a_canary_from_its_share_to_its_promotion(cli, two, counts, show):
    started = cli.json("endpoint", "deploy", "echo", "2", "--canary", "10")
    assert started["deployment"]["state"] == "running" and started["deployment"]["kind"] == "canary"
    assert (started["live"]["share"], started["canary"]) == (90, {"version": 2, "code_weights": "2", "share": 10})
    is_shared(counts(100), one=90, two=10)

    changed = cli.json("endpoint", "traffic", "echo", "1=50", "2=50")
    assert (changed["kind"], changed["state"]) == ("traffic", "live") and changed["switch_us"] > 0
    is_shared(counts(100), one=50, two=50)
    cli("endpoint", "traffic", "echo", "2=100")
    assert counts(20) == {"two": 20}

    promoted = cli.json("endpoint", "promote", "echo")
    assert (promoted["version"], promoted["previous"], promoted["state"]) == (2, 1, "live")
    assert numbers(show()) == {"live": 2, "canary": None, "shadow": None, "standby": 1, "next": None}
    assert counts(20) == {"two": 20}
    history = [(d["kind"], d["version"], d["state"]) for d in show()["deployments"]]
    assert history == [("promote", 2, "live"), ("traffic", 1, "live"), ("traffic", 1, "live"),
                       ("canary", 2, "promoted"), ("deploy", 1, "live")]
    cli("endpoint", "rollback", "echo")
    assert counts(20) == {"one": 20}


@pytest.mark.parametrize("command", ["rollback", "abort"])
def test_one_call_ends_a_canary(cli, two, counts, show, command):
    cli("endpoint", "deploy", "echo", "2", "--canary", "50")
    assert set(counts(20)) == {"one", "two"}
    ended = cli.json("endpoint", command, "echo")
    assert (ended["kind"], ended["state"], ended["version"], ended["previous"]) == ("abort", "live", 1, 2)
    assert counts(40) == {"one": 40}
    shown = show()
    assert numbers(shown) == {"live": 1, "canary": None, "shadow": None, "standby": None, "next": None}
    assert shown["live"]["share"] == 100
    assert [(d["kind"], d["state"]) for d in shown["deployments"][:2]] == [("abort", "live"), ("canary", "aborted")]
    wait_until(lambda: {r["version"] for r in show()["replicas"]} == {1}, what="end of the canary's replica")
    assert cli("endpoint", command, "echo", check=False).returncode == 4


def test_a_canary_that_was_the_standby_is_it_again(cli, two, show):
    cli("endpoint", "deploy", "echo", "2")
    cli("endpoint", "deploy", "echo", "1", "--canary", "10")
    assert numbers(show()) == {"live": 2, "canary": 1, "shadow": None, "standby": None, "next": None}
    cli("endpoint", "abort", "echo")
    assert numbers(show()) == {"live": 2, "canary": None, "shadow": None, "standby": 1, "next": None}


def test_equal_values_of_a_header_stay(cli, two, ask):
    cli("endpoint", "deploy", "echo", "2", "--canary", "20", "--sticky", "X-User")
    users = [{"X-User": f"user-{i}"} for i in range(60)]

    def new():
        return {user["X-User"] for user in users if ask("hi", user).body == b"two:hi"}

    first = new()
    assert first == new()
    cli("endpoint", "traffic", "echo", "2=60")
    second = new()
    assert first <= second and len(second) > len(first)
    cli("endpoint", "promote", "echo")
    assert len(new()) == 60


def test_a_canary_that_cannot_start_changes_nothing(cli, two, push, counts, show):
    push("bad", init="raise RuntimeError('no weights here')")
    result = cli("endpoint", "deploy", "echo", "3", "--canary", "50", "--timeout", "90s", check=False)
    assert result.returncode == 4 and "no weights here" in result.stderr
    assert counts(20) == {"one": 20}
    shown = show()
    assert numbers(shown) == {"live": 1, "canary": None, "shadow": None, "standby": None, "next": None}
    assert (shown["deployments"][0]["kind"], shown["deployments"][0]["state"]) == ("canary", "failed")


def test_no_request_meets_a_canary_that_is_loading(cli, two, push, counts, show):
    push("slow", init="time.sleep(1.5)")
    cli("endpoint", "deploy", "echo", "3", "--canary", "50", "--no-wait")
    assert counts(40) == {"one": 40}
    assert show()["canary"]["share"] == 0
    assert cli("endpoint", "promote", "echo", check=False).returncode == 4
    assert cli("endpoint", "traffic", "echo", "3=10", check=False).returncode == 4
    wait_until(lambda: show()["deployments"][0]["state"] == "running", what="the canary")
    is_shared(counts(20), one=10, slow=10)


def test_killed_daemon_goes_on_with_the_canary(cli, two, daemon, counts, show):
    cli("endpoint", "deploy", "echo", "2", "--canary", "30")
    daemon.kill()
    is_shared(counts(100), one=70, two=30)
    daemon.start()
    is_shared(counts(100), one=70, two=30)
    assert show()["canary"]["share"] == 30
    cli("endpoint", "promote", "echo")
    assert counts(10) == {"two": 10}


def test_daemon_killed_while_the_canary_loads(cli, two, push, daemon, counts, show):
    push("slow", init="time.sleep(1.5)")
    cli("endpoint", "deploy", "echo", "3", "--canary", "50", "--no-wait")
    time.sleep(0.3)
    daemon.kill()
    assert counts(10) == {"one": 10}
    daemon.start()
    wait_until(lambda: show()["deployments"][0]["state"] == "running", what="the canary")
    is_shared(counts(20), one=10, slow=10)


def test_an_alias_takes_the_traffic_only_when_its_version_is_warm(cli, two, push, counts, show):
    """The alias is a word in the catalogue; what is served follows it when the version can answer."""
    push("slow", init="time.sleep(1.5)")
    push("bad", init="raise RuntimeError('no weights here')")
    cli("model", "promote", "test/echo@1")
    cli("endpoint", "deploy", "echo", "test/echo@production")
    cli("model", "promote", "test/echo@3")
    assert counts(30) == {"one": 30}
    wait_until(lambda: show()["live"]["version"] == 3, what="the promoted version")
    assert counts(10) == {"slow": 10}
    cli("model", "promote", "test/echo@4")
    wait_until(lambda: show()["deployments"][0]["state"] == "failed", seconds=60, what="the bad version's end")
    assert (show()["deployments"][0]["kind"], show()["live"]["version"]) == ("follow", 3)
    assert counts(10) == {"slow": 10}


def test_an_alias_goes_with_a_promoted_canary(cli, two, counts, show):
    cli("model", "promote", "test/echo@1")
    cli("endpoint", "deploy", "echo", "test/echo@production")
    cli("endpoint", "deploy", "echo", "2", "--canary", "10")
    assert show()["follow"] == "production"
    assert cli.json("model", "show", "test/echo@production")["version"] == 1
    cli("endpoint", "promote", "echo")
    assert cli.json("model", "show", "test/echo@production")["version"] == 2
    assert (show()["live"]["version"], show()["follow"]) == (2, "production")
    # The other way round: the alias moves to what is the canary, which then is live.
    cli("endpoint", "deploy", "echo", "1", "--canary", "10")
    cli("model", "promote", "test/echo@1")
    wait_until(lambda: show()["live"]["version"] == 1, what="the canary's promotion by its alias")
    assert show()["canary"] is None


def test_a_deployment_ends_the_canary(cli, two, push, counts, show):
    push("three")
    cli("endpoint", "deploy", "echo", "2", "--canary", "10")
    cli("endpoint", "deploy", "echo", "3")
    assert numbers(show()) == {"live": 3, "canary": None, "shadow": None, "standby": 1, "next": None}
    assert [(d["kind"], d["state"]) for d in show()["deployments"][:2]] == [("deploy", "live"), ("canary", "superseded")]
    cli("endpoint", "deploy", "echo", "2", "--canary", "10")
    cli("endpoint", "deploy", "echo", "3")
    assert numbers(show())["canary"] is None
    assert counts(10) == {"three": 10}


def test_a_canary_whose_process_dies_costs_no_request(cli, two, client, counts):
    """What the canary cannot take meanwhile, the live version does."""
    cli("endpoint", "deploy", "echo", "2", "--canary", "50")
    pid = ready_pid(client, "2")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: counts(10)["two"] and ready_pid(client, "2") not in (None, pid), what="the next process")


def test_a_canary_that_cannot_be_started_again_is_ended(cli, two, daemon, show, counts):
    """Its process and the monitor that would start it again are killed."""
    cli("endpoint", "deploy", "echo", "2", "--canary", "50")
    replica = next(r["id"] for r in show()["replicas"] if r["version"] == 2)
    os.kill(json.loads((daemon.data / "runs" / replica / "0" / "monitor.json").read_text())["pid"], signal.SIGKILL)
    wait_until(lambda: show()["canary"] is None, what="the canary's end")
    canary = next(d for d in show()["deployments"] if d["kind"] == "canary")
    assert canary["state"] == "aborted" and "its replica failed" in canary["message"]
    assert counts(20) == {"one": 20}


def test_refusals(cli, two, push, client):
    assert cli("endpoint", "deploy", "echo", "1", "--canary", "10", check=False).returncode == 4  # it is live
    assert cli("endpoint", "deploy", "echo", "2", "--canary", "101", check=False).returncode == 2
    assert cli("endpoint", "deploy", "echo", "2", "--canary", "5", "--sticky", "X User", check=False).returncode == 2
    for command in ("promote", "abort"):
        assert cli("endpoint", command, "echo", check=False).returncode == 4
    assert cli("endpoint", "traffic", "echo", "1=90", "2=10", check=False).returncode == 4
    cli("endpoint", "deploy", "echo", "2", "--canary", "10")
    for shares in (["1=90", "2=20"], ["2=-1"], ["2"], ["2=x"]):
        assert cli("endpoint", "traffic", "echo", *shares, check=False).returncode == 2, shares
    push("three")
    assert cli("endpoint", "traffic", "echo", "3=10", check=False).returncode == 4
    removal = cli("model", "rm", "test/echo@2", check=False)
    assert removal.returncode == 4 and "endpoint echo" in removal.stderr
    reply = client.request("POST", "/api/v1/endpoints/echo/abort", query={"kind": "other"})
    assert reply.status == 400
