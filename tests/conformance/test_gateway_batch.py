"""Requests that wait are handed to predict_batch() together."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import hostile
from gateway import SECONDS, Gateway, serving
from test_gateway_failures import in_background
from test_gateway_predict import head

# Each answer says how many texts were in the call.
MODEL = '''
import os
import time

calls = 0


def init():
    pass


def predict_batch(texts):
    global calls
    calls += 1
    for text in texts:
        if text.startswith("sleep "):
            time.sleep(float(text.split()[1]))
        if text == "exit":
            os._exit(3)
        if text == "raise":
            raise RuntimeError("a reason for it")
    if "list" in texts:
        return "a" * len(texts)
    if "few" in texts:
        return texts[1:]
    if "number" in texts:
        return [7 if text == "number" else text for text in texts]
    if "surrogate" in texts:
        return ["\\ud800" if text == "surrogate" else text for text in texts]
    if "long" in texts[0]:
        return [text * 30_000 for text in texts]
    return [f"{len(texts)} in call {calls}: {text}" for text in texts]
'''

PREDICT = MODEL + '''

def predict(text):
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
    return "alone: " + text
'''


def batching(text=MODEL, size=32, delay_ms=0.0, **fields):
    batch = {"size": size, "delay_us": int(delay_ms * 1000)}
    route = {"version": "1", "weight": 100, "batch": batch, "replicas": [{"id": f"{1:032x}", "key": "key-1"}]}
    return serving(text, "m", routes=[route], **fields)


def wait_until(g, field, n):
    deadline = time.monotonic() + SECONDS
    while g.status("m")["routes"][0][field] < n:
        assert time.monotonic() < deadline, g.status("m")
        time.sleep(0.005)


def post_later(g, text, **options):
    """Sends a request, and returns when it waits or runs."""
    before = g.status("m")["routes"][0]
    wait = in_background(lambda: g.post("/predict/m", text, **options))
    deadline = time.monotonic() + SECONDS
    while True:
        now = g.status("m")["routes"][0]
        if now["queued"] + now["running"] + now["requests"] > before["queued"] + before["running"] + before["requests"]:
            return wait
        assert time.monotonic() < deadline, now
        time.sleep(0.002)


def together(g, texts, **options):
    """Answers to requests that waited while the model was busy with another."""
    busy = post_later(g, "sleep 0.4")
    wait_until(g, "running", 1)
    waiting = [post_later(g, text, **options) for text in texts]
    assert busy().status == 200
    return [wait() for wait in waiting]


@pytest.fixture(scope="module")
def g():
    with batching() as gateway:
        yield gateway


def test_one_alone_is_a_batch_of_one(g):
    assert g.post("/predict/m", "a").text.startswith("1 in call ")


def test_what_waits_goes_together_and_each_gets_its_own_answer(g):
    before = g.status("m")["routes"][0]["batches"]
    texts = [f"text {i}" for i in range(10)]
    replies = together(g, texts)
    assert [r.text.split(": ")[1] for r in replies] == texts
    assert len({r.text.split(": ")[0] for r in replies}) == 1 and replies[0].text.startswith("10 in ")
    after = g.status("m")["routes"][0]["batches"]
    assert (after["count"] - before["count"], after["requests"] - before["requests"]) == (2, 11)
    metrics = g.get("/metrics", token=None).text
    assert f'slipway_predict_batches_total{{endpoint="m",version="1"}} {after["count"]}' in metrics
    assert f'slipway_predict_batched_requests_total{{endpoint="m",version="1"}} {after["requests"]}' in metrics


def test_an_exception_fails_its_batch_and_no_other(g):
    replies = together(g, ["a", "raise", "b"])
    assert [r.status for r in replies] == [500] * 3
    assert {r.json["error"]["message"] for r in replies} == {"RuntimeError: a reason for it"}
    assert g.post("/predict/m", "a").status == 200


@pytest.mark.parametrize("text, message", [
    ("list", "TypeError: predict_batch() returned str, not a list of str"),
    ("few", "ValueError: predict_batch() returned 2 answers to 3 texts"),
    ("number", "TypeError: predict_batch() returned int, not str, as answer 2 of 3"),
])
def test_answers_that_do_not_fit_the_requests(g, text, message):
    replies = together(g, ["a", text, "b"])
    assert [(r.status, r.json["error"]["message"]) for r in replies] == [(500, message)] * 3


def test_a_request_or_an_answer_that_is_no_text_fails_alone(g):
    replies = together(g, ["a", b"\xff\xfe", "b"])
    assert [r.status for r in replies] == [200, 400, 200]
    assert replies[2].text.startswith("2 in call ")
    replies = together(g, ["a", "surrogate", "b"])
    assert [r.status for r in replies] == [200, 500, 200]
    assert "surrogates" in replies[1].json["error"]["message"]
    assert together(g, [b"\xff", b"\xfe"])[1].status == 400  # nothing is left to call the model with


def test_long_answers_of_one_batch(g):
    texts = ["long", "b", "longer", "c" * 10, ""]
    assert [r.text for r in together(g, texts)] == [t * 30_000 for t in texts]


def test_a_deadline_before_the_batch_keeps_out_of_it(g):
    busy = post_later(g, "sleep 0.5")
    wait_until(g, "running", 1)
    late, other = post_later(g, "late", headers={"Slipway-Timeout-Ms": "100"}), post_later(g, "a")
    assert (late().status, other().text[:4], busy().status) == (504, "1 in", 200)


def test_a_client_that_left_before_the_batch_keeps_out_of_it(g):
    busy = post_later(g, "sleep 0.5")
    wait_until(g, "running", 1)
    with socket.create_connection(("127.0.0.1", g.port)) as s:
        s.sendall(head("/predict/m", "POST", "Content-Length: 4") + b"gone")
        wait_until(g, "queued", 1)
    other = post_later(g, "a")
    assert (other().text[:4], busy().status) == ("1 in", 200)


def test_a_deadline_within_a_batch_is_its_own(g):
    begun = time.monotonic()
    busy = post_later(g, "sleep 0.3")
    wait_until(g, "running", 1)
    hasty, slow = post_later(g, "a", headers={"Slipway-Timeout-Ms": "500"}), post_later(g, "sleep 1")
    assert hasty().status == 504 and time.monotonic() - begun < 1.2
    assert (slow().text[:4], busy().status) == ("2 in", 200)


def test_never_more_than_the_size():
    with batching(size=4) as g:
        replies = together(g, [f"{i}" for i in range(10)])
        sizes = sorted(r.text.split(" ")[0] for r in replies)
        assert sizes == ["2"] * 2 + ["4"] * 8
        assert [r.text.split(": ")[1] for r in replies] == [f"{i}" for i in range(10)]


def test_a_delay_lets_a_batch_fill():
    with batching(delay_ms=700) as g:
        replies = [wait() for wait in [post_later(g, "a") for _ in range(5)]]
        assert [r.text[:4] for r in replies] == ["5 in"] * 5
        begun = time.monotonic()
        assert g.post("/predict/m", "a").text[:4] == "1 in"
        assert time.monotonic() - begun >= 0.7


def test_a_full_batch_does_not_wait():
    with batching(size=3, delay_ms=1000) as g:
        begun = time.monotonic()
        replies = [wait() for wait in [in_background(lambda: g.post("/predict/m", "a")) for _ in range(3)]]
        assert [r.text[:4] for r in replies] == ["3 in"] * 3 and time.monotonic() - begun < 0.9


def test_a_full_queue_does_not_wait_either():
    with batching(queue=2, delay_ms=1000) as g:
        begun = time.monotonic()
        replies = [wait() for wait in [in_background(lambda: g.post("/predict/m", "a")) for _ in range(2)]]
        assert [r.text[:4] for r in replies] == ["2 in"] * 2 and time.monotonic() - begun < 0.9
    with batching(queue=0, delay_ms=1000) as g:
        begun = time.monotonic()
        assert g.post("/predict/m", "a").text[:4] == "1 in" and time.monotonic() - begun < 0.9


def test_the_delay_ends_with_its_client_and_with_its_version():
    with batching(delay_ms=1000) as g:
        with socket.create_connection(("127.0.0.1", g.port)) as s:
            s.sendall(head("/predict/m", "POST", "Content-Length: 4") + b"gone")
            wait_until(g, "queued", 1)
        wait = in_background(lambda: g.post("/predict/m", "a"))
        wait_until(g, "queued", 1)
        assert wait().text[:4] == "1 in"
        wait = in_background(lambda: g.post("/predict/m", "b"))
        wait_until(g, "queued", 1)
        g.configure()
        assert wait().text[:4] == "1 in"


def test_a_worker_that_dies_fails_the_batch_that_it_ran():
    with batching(size=4) as g:
        busy = post_later(g, "sleep 0.3")
        wait_until(g, "running", 1)
        batch = [post_later(g, text) for text in ("a", "exit", "b", "c")]
        behind = post_later(g, "d")
        assert busy().status == 200
        replies = [wait() for wait in batch]
        assert [r.status for r in replies] == [503] * 4
        assert "while it ran the request" in replies[0].json["error"]["message"]
        g.start_worker("m")
        assert behind().text == "1 in call 1: d"
        assert g.status("m")["routes"][0]["outcomes"]["worker_lost"] == 4


def test_a_batch_that_hangs_is_answered_and_its_worker_killed():
    with batching(timeout_ms=600) as g:
        replies = [wait() for wait in [in_background(lambda: g.post("/predict/m", "sleep 60")) for _ in range(3)]]
        assert {r.status for r in replies} <= {503, 504} and 504 in {r.status for r in replies}
        _, event = g.control.wait_event("failed")
        assert "time limit" in event["message"] and event["killed"] is True
        assert g.workers[1].wait(SECONDS) == -signal.SIGKILL


def test_what_a_lost_worker_had_not_begun_is_run_by_the_next():
    """Two batches that it did not take, in the order in which they were to come."""
    with batching(worker=False, size=2) as g:
        lost = hostile.Worker(str(g.run / "worker.sock"), g.replica(1), "key-1", functions=5)
        lost.send(hostile.READY, functions=5)
        g.wait_ready("m")
        waiting = [post_later(g, text) for text in "abc"]
        lost.close()
        g.start_worker("m")
        assert [wait().text.split(": ")[1] for wait in waiting] == ["a", "b", "c"]


def test_without_batches_predict_is_called():
    for size, alone in ((1, True), (32, False)):
        with batching(PREDICT, size=size) as g:
            replies = together(g, ["a", "b"])
            assert [r.text.startswith("alone: ") for r in replies] == [alone] * 2
    with batching(size=1) as g:  # no predict(): batches of one
        assert [r.text[:4] for r in together(g, ["a", "b"])] == ["1 in"] * 2


def test_a_model_without_the_function_is_not_kept_waiting():
    with batching("def init(): pass\ndef predict(text): return text", delay_ms=1000) as g:
        begun = time.monotonic()
        assert g.post("/predict/m", "a").text == "a" and time.monotonic() - begun < 0.9
        assert g.status("m")["routes"][0]["batches"] == {"count": 0, "requests": 0}


def test_tensors_go_alone_and_their_texts_together():
    infer = {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [3], "data": ["a", "b", "c"]}]}
    empty = {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [0], "data": []}]}
    with batching(delay_ms=100) as g:
        assert [text[:4] for text in g.infer("m", infer).json["outputs"][0]["data"]] == ["3 in"] * 3
        assert g.infer("m", empty).json["outputs"][0]["data"] == []
        busy = post_later(g, "sleep 0.4")
        wait_until(g, "running", 1)
        texts = [post_later(g, "x"), post_later(g, "y")]
        tensors = in_background(lambda: g.infer("m", infer))
        wait_until(g, "queued", 3)
        texts.append(post_later(g, "z"))
        assert busy().status == 200
        assert [wait().text[:4] for wait in texts] == ["2 in", "2 in", "1 in"]
        assert tensors().json["outputs"][0]["data"][0].startswith("3 in call ")


def test_a_package_of_tensors_alone():
    text = "def init(): pass\ndef predict_tensors(inputs): return inputs"
    with serving(text, "m") as g:
        infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}
        assert g.infer("m", infer).json["outputs"][0]["data"] == [1, 2]
        reply = g.post("/predict/m", "a")
        assert reply.status == 400 and "no predict()" in reply.json["error"]["message"]


TWICE = """
import sys, hostile
worker = hostile.Worker(*sys.argv[1:], functions=5)
worker.send(hostile.READY, functions=5)
first = worker.wait(60)
worker.answer(first)
worker.answer(first)
worker.socket.settimeout(60)
worker.socket.recv(1)
"""


def test_a_worker_that_answers_one_of_a_batch_twice():
    """It is killed; what it had not begun, as it said, is run by another."""
    with batching(worker=False, size=3, delay_ms=1000) as g:
        g.workers[1] = subprocess.Popen([sys.executable, "-c", TWICE, str(g.run / "worker.sock"), g.replica(1), "key-1"],
                                        cwd=os.path.dirname(hostile.__file__))
        g.wait_ready("m")
        waiting = [in_background(lambda: g.post("/predict/m", "a")) for _ in range(3)]
        _, event = g.control.wait_event("failed")
        assert "does not own" in event["message"]
        assert g.workers[1].wait(SECONDS) == -signal.SIGKILL
        g.start_worker("m")
        assert sorted(wait().text[:4] for wait in waiting) == ["2 in", "2 in", "ok"]


def test_configurations_that_are_wrong():
    with Gateway() as g:
        for batch in ({}, {"size": 0}, {"size": 65}, {"size": 2, "delay_us": -1}, {"size": 2, "delay_us": 1000001},
                      {"size": 2, "nonsense": 1}, 7):
            reply = g.control.request("configure", endpoints=[g.endpoint("m", [g.route(batch=batch)])])
            assert reply["error"]["code"] == "invalid_argument", (batch, reply)
