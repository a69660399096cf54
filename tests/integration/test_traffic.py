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
    """None while it is not ready, or the gateway is not there."""
    for endpoint in client.get("/api/v1/gateway").get("endpoints", []):
        replica = next(route for route in endpoint["routes"] if route["version"] == version)["replicas"][0]
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


# -- shadows --


@pytest.fixture
def statistics(client):
    """statistics("canary"): the figures of the version with the role."""

    def statistics(role):
        versions = client.get("/api/v1/endpoints/echo/statistics")["versions"]
        return next(version for version in versions if version["role"] == role)

    return statistics


@pytest.fixture
def compared(statistics):
    """compared(10): the shadow's figures when so many copies have ended."""

    def compared(n):
        def ended():
            shadow = statistics("shadow")
            return shadow if (shadow["copies"] or 0) + (shadow["dropped"] or 0) >= n else None

        return wait_until(ended, what=f"{n} copies")

    return compared


def test_a_shadow_is_compared_and_not_seen(cli, two, counts, show, compared):
    started = cli.json("endpoint", "deploy", "echo", "2", "--shadow")
    assert (started["deployment"]["kind"], started["deployment"]["state"]) == ("shadow", "running")
    assert counts(20) == {"one": 20}
    shadow = compared(20)
    assert (shadow["disagreed"], shadow["agreed"], shadow["failed"], shadow["disagreement"]) == (20, 0, 0, 1)
    assert numbers(show()) == {"live": 1, "canary": None, "shadow": 2, "standby": None, "next": None}
    comparisons = cli.json("endpoint", "compare", "echo")
    assert len(comparisons) == 20
    assert (comparisons[0]["request"], comparisons[0]["live"], comparisons[0]["shadow"]) == ("hi", "one:hi", "two:hi")
    table = cli("endpoint", "compare", "echo").stdout
    assert "one:hi" in table and "two:hi" in table and "SHADOW" in table
    text = cli("endpoint", "show", "echo").stdout
    assert "Since the shadow" in text and "100 %" in text

    ended = cli.json("endpoint", "abort", "echo", "--shadow")
    assert ended["kind"] == "abort"
    assert numbers(show())["shadow"] is None
    assert show()["deployments"][1]["state"] == "aborted"
    assert cli.json("endpoint", "compare", "echo") == []
    assert cli("endpoint", "abort", "echo", "--shadow", check=False).returncode == 4


def test_a_shadow_that_cannot_start_changes_nothing(cli, two, push, counts, show):
    push("bad", init="raise RuntimeError('no weights here')")
    result = cli("endpoint", "deploy", "echo", "3", "--shadow", "--timeout", "90s", check=False)
    assert result.returncode == 4 and "no weights here" in result.stderr
    assert counts(5) == {"one": 5}
    assert numbers(show())["shadow"] is None


def test_a_canary_and_a_shadow_at_once(cli, two, push, counts, show, compared):
    push("three")
    cli("endpoint", "deploy", "echo", "3", "--shadow", "--sample", "1")
    cli("endpoint", "deploy", "echo", "2", "--canary", "50")
    assert numbers(show()) == {"live": 1, "canary": 2, "shadow": 3, "standby": None, "next": None}
    is_shared(counts(40), one=20, two=20)
    # Only what the live version answered is held against it.
    assert abs(compared(17)["copies"] - 20) <= 3
    cli("endpoint", "promote", "echo", "--shadow")
    assert numbers(show()) == {"live": 3, "canary": None, "shadow": None, "standby": 1, "next": None}
    assert counts(5) == {"three": 5}


# -- statistics --


def test_statistics_begin_with_the_canary(cli, two, ask, counts, statistics, client, show):
    counts(30)
    assert statistics("live")["requests"] == 30
    cli("endpoint", "deploy", "echo", "2", "--canary", "50")
    is_shared(counts(40), one=20, two=20)
    live, canary = statistics("live"), statistics("canary")
    assert live["requests"] + canary["requests"] == 40 and abs(canary["requests"] - 20) <= 3
    assert (live["error_rate"], canary["error_rate"], canary["share"]) == (0, 0, 50)
    assert 0 < canary["p50_ms"] <= canary["p99_ms"]
    assert client.get("/api/v1/endpoints/echo/statistics")["beside"] == "canary"
    assert show()["statistics"]["versions"][1]["role"] == "canary"
    assert "Since the canary" in cli("endpoint", "show", "echo").stdout


def test_errors_are_those_of_the_model(cli, two, push, ask, statistics):
    push("bad", fail="raise RuntimeError('cannot')")
    cli("endpoint", "deploy", "echo", "3", "--canary", "100", "--abort-if", "false")
    assert [ask("fail").status for _ in range(4)] == [500] * 4
    assert ask("hi").status == 200
    assert (statistics("canary")["errors"], statistics("canary")["error_rate"]) == (4, 0.8)


# -- rules --


def load(ask, seconds=30, text="hi", until=None):
    """Requests until the condition holds."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "the rule did not decide"
        for _ in range(20):
            ask(text)


def newest(show, kind):
    return next(d for d in show()["deployments"] if d["kind"] == kind)


def test_a_rule_promotes(cli, two, ask, counts, show, client):
    cli("endpoint", "deploy", "echo", "2", "--canary", "50", "--promote-if",
        '{verdict: (.canary.error_rate == 0), reason: "all well"}', "--after", "40/1s")
    time.sleep(2.5)
    assert show()["canary"], "it had no requests yet"
    load(ask, until=lambda: show()["live"]["version"] == 2)
    canary = newest(show, "canary")
    decision = canary["decision"]
    assert (canary["state"], decision["verdict"], decision["reason"]) == ("promoted", "promoted", "all well")
    assert decision["seen"]["canary"]["requests"] >= 40 and decision["seen"]["live"]["requests"] >= 30
    assert numbers(show()) == {"live": 2, "canary": None, "shadow": None, "standby": 1, "next": None}
    events = client.get("/api/v1/events", query={"limit": 1000})["items"]
    promoted = [event for event in events if event["type"] == "slipway.endpoint.promoted"]
    assert promoted[-1]["data"]["decision"]["seen"] == decision["seen"]


def test_a_really_bad_version_is_aborted_by_default(cli, two, push, ask, counts, show):
    push("bad", fail="raise RuntimeError('cannot')")
    cli("endpoint", "deploy", "echo", "3", "--canary", "50", "--promote-if", "true", "--after", "100000/1h")
    load(ask, text="fail", until=lambda: show()["canary"] is None)
    canary = newest(show, "canary")
    assert (canary["state"], canary["decision"]["verdict"]) == ("aborted", "aborted")
    assert canary["decision"]["seen"]["canary"]["error_rate"] == 1
    assert ".canary.error_rate" in canary["decision"]["rule"]
    assert counts(20) == {"one": 20}


def test_aborting_wins(cli, two, ask, show):
    cli("endpoint", "deploy", "echo", "2", "--canary", "50", "--promote-if", "true", "--abort-if",
        ".canary.requests >= 10", "--after", "10/0s")
    load(ask, until=lambda: show()["canary"] is None)
    assert newest(show, "canary")["state"] == "aborted"
    assert show()["live"]["version"] == 1


def test_a_rule_that_fails_changes_nothing_and_is_shown(cli, two, counts, show):
    cli("endpoint", "deploy", "echo", "2", "--canary", "50", "--promote-if", "true", "--abort-if",
        '.canary.requests | error("broken")', "--after", "0/0s")
    counts(20)
    problem = wait_until(lambda: newest(show, "canary")["problem"], what="the problem")
    assert "abort_if" in problem and "raises an error" in problem
    time.sleep(1.5)
    assert show()["canary"] and show()["live"]["version"] == 1
    assert "a rule fails" in cli("endpoint", "show", "echo").stdout
    cli("endpoint", "promote", "echo")
    assert show()["live"]["version"] == 2


def test_a_rule_over_a_shadow(cli, two, push, ask, show):
    push("one", init="time.sleep(0)")  # the same answers
    cli("endpoint", "deploy", "echo", "3", "--shadow", "--promote-if", ".canary.disagreement == 0", "--abort-if",
        ".canary.disagreement != null and .canary.disagreement > 0", "--after", "20/0s")
    load(ask, until=lambda: show()["live"]["version"] == 3)
    assert newest(show, "shadow")["decision"]["seen"]["canary"]["agreed"] >= 20
    cli("endpoint", "deploy", "echo", "2", "--shadow", "--abort-if", ".canary.disagreement == 1")
    load(ask, until=lambda: show()["shadow"] is None)
    assert newest(show, "shadow")["state"] == "aborted"


def test_a_rule_over_answers_of_a_canary_that_are_compared(cli, two, ask, show, statistics):
    cli("endpoint", "deploy", "echo", "2", "--canary", "20", "--sample", "0.5", "--abort-if",
        ".canary.disagreed >= 10 and .canary.disagreement > 0.5")
    load(ask, until=lambda: show()["canary"] is None)
    seen = newest(show, "canary")["decision"]["seen"]["canary"]
    assert seen["disagreed"] >= 10 and seen["disagreement"] == 1 and seen["errors"] == 0


def test_another_gateway_counts_anew(cli, two, client, ask, show, statistics):
    cli("endpoint", "deploy", "echo", "2", "--canary", "50", "--promote-if", "true", "--after", "150/0s")
    for _ in range(100):
        ask()
    os.kill(client.get("/api/v1/gateway")["gateway"]["pid"], signal.SIGKILL)
    wait_until(lambda: client.get("/api/v1/gateway")["gateway"]["restarts"] == 1, what="the next gateway")
    wait_until(lambda: ready_pid(client, "2") and ready_pid(client, "1"), what="its replicas")
    time.sleep(1.5)
    assert show()["canary"]["share"] == 50 and statistics("canary")["requests"] == 0
    load(ask, until=lambda: show()["live"]["version"] == 2)
    assert newest(show, "canary")["decision"]["seen"]["canary"]["requests"] >= 150


def test_rules_go_on_after_the_daemon_was_killed(cli, two, daemon, ask, show):
    cli("endpoint", "deploy", "echo", "2", "--canary", "50", "--promote-if", ".canary.requests >= 60", "--after", "1/0s")
    before = newest(show, "canary")["id"]
    for _ in range(60):
        ask()
    daemon.kill()
    for _ in range(40):
        ask()
    daemon.start()
    load(ask, until=lambda: show()["live"]["version"] == 2)
    canary = newest(show, "canary")
    assert (canary["id"], canary["state"]) == (before, "promoted")
    assert canary["decision"]["seen"]["canary"]["requests"] >= 60


def test_refusals_of_rules(cli, two, client):
    deploy = "/api/v1/endpoints/echo/deploy"
    for body, word in (
        ({"version": "2", "canary": 10, "promote_if": ".canary |"}, "promote_if"),
        ({"version": "2", "canary": 10, "abort_if": ""}, "abort_if"),
        ({"version": "2", "canary": 10, "shadow": True}, "not both"),
        ({"version": "2", "promote_if": "true"}, "promote_if"),
        ({"version": "2", "sample": 0.5}, "sample"),
        ({"version": "2", "shadow": True, "sample": 2}, "sample"),
    ):
        reply = client.request("POST", deploy, body)
        assert reply.status == 400 and word in reply.json["error"]["message"], (body, reply.json)
    assert cli("endpoint", "deploy", "echo", "2", "--canary", "10", "--after", "x", check=False).returncode == 2
