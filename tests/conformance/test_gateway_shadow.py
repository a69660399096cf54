"""Copies of requests on a shadow: compared, counted, bounded, and never noticed by who asks."""

import json
import signal
import time

import pytest

from gateway import SECONDS, Gateway

MODEL = '''
import json
import os
import time

BIAS = float(os.environ.get("BIAS", "0"))


def init():
    pass


def predict(text):
    if os.environ.get("SHADOW"):
        if text.startswith("hang"):
            time.sleep(float(os.environ.get("HANG", "60")))
        if text == "exit":
            os._exit(3)
        if text == "raise":
            raise RuntimeError("no such digit")
    try:
        return json.dumps({"label": "a", "scores": [x + BIAS for x in json.loads(text)]})
    except ValueError:
        return text


def predict_tensors(inputs):
    return {"out": inputs["x"] + inputs["x"].dtype.type(BIAS)}
'''


def wait(condition, what):
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return value


class Pair:
    """Version 7 answers, version 8 is its shadow."""

    def __init__(self, g):
        self.g = g

    def configure(self, timeout_ms=10000, **shadow):
        fields = {"shadow": True, "sample": 1, "tolerance": 0, **shadow}
        self.g.configure(self.g.endpoint("model", [self.g.route("7", [1]), self.g.route("8", [2], **fields)],
                                         timeout_ms=timeout_ms))

    def start_shadow(self, **environment):
        seen = len(self.g.control.events)
        self.g.start_worker("model", 2, environment={"SHADOW": "1", **environment})
        self.g.control.wait_event("ready", self.g.replica(2), after=seen)

    def shadow(self):
        return next(r for r in self.g.status("model")["routes"] if r["version"] == "8")["shadow"]

    def settled(self, n):
        """The counters when so many copies have ended."""
        def ended():
            shadow = self.shadow()
            return shadow if shadow["copies"] + sum(shadow["dropped"].values()) >= n else None

        return wait(ended, f"{n} copies; {self.shadow()}")

    def samples(self):
        reply = self.g.control.request("compare", endpoint="model")
        assert reply.get("ok"), reply
        return reply["shadows"][0]["samples"]

    def ask(self, *texts):
        connection = self.g.connection()
        replies = [self.g.post("/predict/model", text, connection=connection) for text in texts]
        assert {reply.status for reply in replies} == {200}
        return [reply.text for reply in replies]


@pytest.fixture
def pair():
    with Gateway() as g:
        g.package("model", MODEL)
        pair = Pair(g)
        pair.configure()
        g.start_worker("model", 1)
        g.control.wait_event("ready", g.replica(1))
        yield pair


def test_equal_answers_agree(pair):
    pair.start_shadow()
    pair.ask(*["[1, 2]"] * 10, "no JSON")
    shadow = pair.settled(11)
    assert (shadow["agreed"], shadow["disagreed"], shadow["failed"], shadow["max_abs"]) == (11, 0, 0, 0)
    assert pair.samples() == []
    # Its own figures are those of its version; those of the live one stay what clients saw.
    routes = {r["version"]: r for r in pair.g.status("model")["routes"]}
    assert routes["7"]["requests"] == routes["8"]["requests"] == 11
    assert pair.g.status("model")["requests"] == 11


def test_numbers_that_differ(pair):
    pair.start_shadow(BIAS="0.25")
    assert json.loads(pair.ask("[1, 2]")[0]) == {"label": "a", "scores": [1, 2]}
    shadow = pair.settled(1)
    assert (shadow["agreed"], shadow["disagreed"]) == (0, 1)
    assert (shadow["max_abs"], round(shadow["max_rel"], 6)) == (0.25, 0.2)
    (sample,) = pair.samples()
    assert sample["request"] == "[1, 2]" and "1.25" in sample["shadow"] and "1.25" not in sample["live"]
    assert sample["numeric"] is True and sample["failed"] is False and sample["max_abs"] == 0.25
    pair.configure(tolerance=0.25)
    pair.ask("[1, 2]")
    assert pair.settled(2)["agreed"] == 1


def test_tensors_are_compared_as_tensors(pair):
    pair.start_shadow(BIAS="0.5")
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}
    for _ in range(3):
        assert pair.g.infer("model", body).json["outputs"][0]["data"] == [1, 2]
    shadow = pair.settled(3)
    assert (shadow["disagreed"], shadow["max_abs"]) == (3, 0.5)
    assert pair.samples()[0]["live"] == "out FP32 [2] 1 2" and pair.samples()[0]["shadow"] == "out FP32 [2] 1.5 2.5"
    assert pair.samples()[0]["request"] == "x FP32 [2] 1 2"


def test_only_a_sample_is_copied(pair):
    pair.start_shadow()
    pair.configure(sample=0.1)
    pair.ask(*["[1]"] * 200)
    wait(lambda: pair.shadow()["copies"] >= 19, "copies")
    time.sleep(0.1)
    assert 19 <= pair.shadow()["copies"] <= 21
    pair.configure(sample=0)
    pair.ask(*["[1]"] * 20)
    assert pair.shadow()["copies"] <= 21


def test_only_answers_of_the_version_it_is_held_against(pair):
    pair.start_shadow()
    pair.configure(against="6")
    pair.ask("[1]", "[1]")
    pair.configure(against="7")
    pair.ask("[1]")
    # Who asks for a version by its name gets it, and is not copied.
    assert pair.g.post("/predict/model?version=7", "[1]").status == 200
    assert pair.settled(1)["copies"] == 1


def test_errors_of_the_shadow_are_counted(pair):
    pair.start_shadow()
    assert pair.ask("raise") == ["raise"]
    shadow = pair.settled(1)
    assert (shadow["failed"], shadow["disagreed"]) == (1, 0)
    (sample,) = pair.samples()
    assert sample["failed"] is True and "no such digit" in sample["shadow"]


def test_a_shadow_that_hangs_delays_nobody(pair):
    """Its queue fills, copies are dropped and counted, and no answer is later or other than without it."""
    pair.configure(timeout_ms=60000)
    pair.start_shadow()
    begun = time.monotonic()
    pair.ask(*["hang"] * 300)
    took = time.monotonic() - begun
    assert took < SECONDS, "300 answers waited for one that takes a minute"
    status = next(r for r in pair.g.status("model")["routes"] if r["version"] == "8")
    limit = 64
    assert status["queued"] <= limit and status["shadow"]["dropped"]["queue_full"] >= 300 - limit - 64
    assert status["shadow"]["copies"] == 0


def test_a_shadow_that_hangs_for_ever_is_killed(pair):
    pair.configure(timeout_ms=500)
    pair.start_shadow()
    pair.ask("hang")
    _, event = pair.g.control.wait_event("failed", pair.g.replica(2))
    assert "time limit" in event["message"]
    assert pair.settled(1)["failed"] == 1
    assert pair.ask("[1]")


def test_a_shadow_that_dies_is_not_noticed(pair):
    pair.start_shadow()
    for _ in range(2):
        seen = len(pair.g.control.events)
        pair.ask("exit", *["[1]"] * 20)
        pair.g.control.wait_event("gone", pair.g.replica(2), after=seen)
        pair.g.workers[2].wait(SECONDS)
        pair.ask("[1]")
        pair.start_shadow()
    shadow = pair.shadow()
    assert shadow["failed"] >= 2 and shadow["dropped"]["not_ready"] >= 2


def test_a_shadow_that_is_not_there_gets_nothing(pair):
    pair.ask("[1]", "[1]")
    shadow = pair.shadow()
    assert (shadow["copies"], shadow["dropped"]["not_ready"]) == (0, 2)


def test_what_is_large_is_not_copied(pair):
    pair.start_shadow()
    pair.ask("x" * (300 << 10), "y" * (2 << 20), "[1]")
    shadow = pair.settled(3)
    assert (shadow["dropped"]["too_large"], shadow["agreed"]) == (2, 1)


def test_samples_are_bounded(pair):
    pair.start_shadow(BIAS="1")
    pair.ask(*[json.dumps([i] * 2000) for i in range(60)])
    assert pair.settled(60)["disagreed"] == 60
    samples = pair.samples()
    assert len(samples) == 20
    assert all(len(text) <= 4096 for s in samples for text in (s["request"], s["live"], s["shadow"]))


def test_copies_end_with_the_shadow(pair):
    """What waits for a shadow that becomes live does not stand in the way of requests."""
    pair.configure(timeout_ms=60000)
    pair.start_shadow(HANG="1")
    pair.ask(*["hang"] * 20)
    pair.g.configure(pair.g.endpoint("model", [pair.g.route("7", [1]), pair.g.route("8", [2], 0)], timeout_ms=60000))
    route = next(r for r in pair.g.status("model")["routes"] if r["version"] == "8")
    assert (route["queued"], route["shadow"]) == (0, None)
    assert pair.g.post("/predict/model?version=8", "a").text == "a"


def test_a_gateway_that_ends_leaves_its_copies(pair):
    pair.configure(timeout_ms=60000)
    pair.start_shadow()
    pair.ask(*["hang"] * 30)
    begun = time.monotonic()
    pair.g.process.send_signal(signal.SIGTERM)
    assert pair.g.process.wait(SECONDS) == 0
    assert time.monotonic() - begun < 20


def test_metrics(pair):
    pair.start_shadow(BIAS="1")
    pair.ask("[1]", "raise")
    pair.settled(2)
    text = pair.g.get("/metrics", token=None).text
    assert 'slipway_shadow_copies_total{endpoint="model",version="8",result="disagreed"} 1' in text
    assert 'slipway_shadow_copies_total{endpoint="model",version="8",result="failed"} 1' in text
    assert 'slipway_shadow_dropped_total{endpoint="model",version="8",reason="queue_full"} 0' in text
    assert 'slipway_route_weight{endpoint="model",version="7"} 100' in text
    assert 'slipway_shadow_largest_difference{endpoint="model",version="8"} 1' in text


def test_copies_beside_requests_of_its_own(pair):
    """A canary can be compared, too: while it is idle, and its figures remain those of its requests."""
    def configure(weight):
        pair.g.configure(pair.g.endpoint("model", [pair.g.route("7", [1], 100 - weight),
                                                   pair.g.route("8", [2], weight, sample=1, against="7")]))

    configure(10)
    pair.start_shadow(BIAS="1", HANG="1")
    answers = pair.ask(*["[1]"] * 50)
    own = sum("2.0" in answer for answer in answers)
    assert 4 <= own <= 6
    shadow = pair.settled(50 - own)
    assert shadow["disagreed"] == shadow["copies"] >= 1
    route = next(r for r in pair.g.status("model")["routes"] if r["version"] == "8")
    assert route["requests"] == route["latency"]["count"] == route["queue_time"]["count"] == own
    # What runs on it, a copy or not, keeps further copies away.
    before = pair.shadow()
    pair.ask(*["hang"] * 3)
    assert pair.shadow()["dropped"]["queue_full"] >= before["dropped"]["queue_full"] + 1


def test_one_shadow_at_a_time(pair):
    g = pair.g
    reply = g.control.request("configure", endpoints=[g.endpoint("model", [
        g.route("7", [1]), {**g.route("8", [2]), "shadow": True}, {**g.route("9", [3]), "shadow": True}])])
    assert reply["error"]["code"] == "invalid_argument" and "two shadows" in reply["error"]["message"]
