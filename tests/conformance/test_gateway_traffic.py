"""How requests are divided between the versions of an endpoint."""

import math
import signal

import pytest

from gateway import Gateway

NAMED = '''
import os
import time


def init():
    pass


def predict(text):
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
    return os.environ["NAME"]
'''


@pytest.fixture
def two():
    """Version 7 ("old") and version 8 ("new"), both ready."""
    with Gateway() as g:
        g.package("named", NAMED)
        share(g, 100, 0)
        g.start_worker("named", 1, environment={"NAME": "old"})
        g.start_worker("named", 2, environment={"NAME": "new"})
        g.wait_ready("named", 2)
        yield g


def share(g, old, new, sticky=None):
    g.configure(g.endpoint("named", [g.route("7", [1], old), g.route("8", [2], new)], sticky=sticky))


def ask(g, n, headers=None, connection=None):
    connection = connection or g.connection()
    return [g.post("/predict/named", "a", headers=headers, connection=connection).text for _ in range(n)]


@pytest.mark.parametrize("weight", [1, 10, 50, 100])
def test_shares_are_what_was_asked_for(two, weight):
    share(two, 100 - weight, weight)
    n, p = 1000, weight / 100
    got = ask(two, n).count("new")
    # Four standard deviations of independent draws; an even spread stays far within.
    assert abs(got - n * p) <= 4 * math.sqrt(n * p * (1 - p)), (weight, got)


def test_shares_hold_in_any_stretch(two):
    """Requests are spread evenly: 10 % is not ten in a row and then none."""
    share(two, 90, 10)
    answers = ask(two, 600)
    counts = [answers[i:i + 50].count("new") for i in range(0, len(answers), 50)]
    assert all(3 <= count <= 7 for count in counts), counts


def test_equal_values_stay_and_move_one_way(two):
    users = [f"user-{i}" for i in range(300)]

    def versions():
        connection = two.connection()
        return {user: two.post("/predict/named", "a", headers={"X-User": user}, connection=connection).text
                for user in users}

    moved, before = set(), None
    for weight in (0, 5, 20, 50, 80, 100):
        share(two, 100 - weight, weight, sticky="X-User")
        now = versions()
        assert now == versions()
        new = {user for user, version in now.items() if version == "new"}
        assert moved <= new, f"at {weight} % some went back"
        bound = 4 * math.sqrt(len(users) * weight / 100 * (1 - weight / 100))
        assert abs(len(new) - len(users) * weight / 100) <= bound, (weight, len(new))
        moved = new
    # And back: who is left on the new version was there at that share before.
    share(two, 80, 20, sticky="X-User")
    before = {user for user, version in versions().items() if version == "new"}
    share(two, 95, 5, sticky="X-User")
    assert {user for user, version in versions().items() if version == "new"} <= before


def test_equal_values_stay_over_a_restart_and_another_order(two):
    share(two, 50, 50, sticky="X-User")
    users = [{"X-User": str(i)} for i in range(60)]
    before = [ask(two, 1, user)[0] for user in users]
    two.configure(two.endpoint("named", [two.route("8", [2], 50), two.route("7", [1], 50)], sticky="X-User"))
    assert [ask(two, 1, user)[0] for user in users] == before
    two.kill()
    for worker in two.workers.values():
        worker.kill()
        worker.wait()
    two.start()
    two.configure(two.endpoint("named", [two.route("8", [2], 50), two.route("7", [1], 50)], sticky="X-User"))
    two.start_worker("named", 1, environment={"NAME": "old"})
    two.start_worker("named", 2, environment={"NAME": "new"})
    two.wait_ready("named", 2)
    assert [ask(two, 1, user)[0] for user in users] == before
    assert set(before) == {"old", "new"}


def test_a_version_without_a_replica_is_passed_over(two):
    share(two, 50, 50)
    seen = len(two.control.events)
    two.workers[2].send_signal(signal.SIGKILL)
    two.workers[2].wait()
    two.control.wait_event("gone", after=seen)
    assert set(ask(two, 40)) == {"old"}
    assert two.get("/v2/models/named/ready", token=None).status == 200
    # Who names the version waits for it.
    assert two.post("/predict/named?version=8", "a", headers={"Slipway-Timeout-Ms": "100"}).status == 504
    two.start_worker("named", 2, environment={"NAME": "new"})
    two.control.wait_event("ready", after=seen)
    assert set(ask(two, 40)) == {"old", "new"}


def test_a_version_can_be_asked_for_without_a_share(two):
    assert two.post("/predict/named?version=8", "a").text == "new"
    assert set(ask(two, 20)) == {"old"}
