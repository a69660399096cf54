"""The log of requests: CloudEvents in segments, evenly sampled, bounded, and never felt by who asks."""

import base64
import json
import os
import re
import shutil
import stat
import threading
import time
from datetime import datetime, timezone

import pytest

from gateway import SECONDS, Gateway, serving

MODEL = '''
import os
import time


def init():
    pass


def predict(text):
    if text == "raise":
        raise ValueError("no such digit")
    if text == "exit":
        os._exit(3)
    if text.startswith("sleep"):
        time.sleep(float(text[5:]))
    return text[::-1]


def predict_tensors(inputs):
    return inputs
'''
CLOSED = 64 << 20


def requests_of(gateway):
    return gateway.run / "requests"


def closed(gateway):
    """The lines of all closed segments, in order."""
    names = sorted(p for p in requests_of(gateway).iterdir() if p.suffix == ".jsonl")
    return [json.loads(line) for name in names for line in name.read_text().splitlines()]


def flush(gateway, **fields):
    reply = gateway.control.request("flush-requests", **fields)
    assert reply.get("ok"), reply
    return reply["closed"]


def logged(gateway):
    flush(gateway)
    return closed(gateway)


def check_event(event):
    """CloudEvents 1.0, section 3 (attributes) and the JSON format."""
    assert event["specversion"] == "1.0" and event["type"] == "slipway.request"
    assert isinstance(event["id"], str) and event["id"] and re.fullmatch(r"/endpoints/[a-z0-9-]+", event["source"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert event["datacontenttype"] == "application/json" and isinstance(event["data"], dict)
    for name, value in event.items():
        assert re.fullmatch(r"[a-z0-9]{1,20}", name) and value is not None
        assert name == "data" or (isinstance(value, str) and value)


def body_of(part):
    assert ("text" in part) != ("base64" in part)
    return part["text"].encode() if "text" in part else base64.b64decode(part["base64"], validate=True)


def test_a_request_is_an_event():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with serving(MODEL, log={"sample": 1}) as g:
        before = datetime.now(timezone.utc)
        answer = g.post("/predict/echo", "grün", headers={"traceparent": trace, "Content-Type": "text/plain"})
        after = datetime.now(timezone.utc)
        assert answer.text == "nürg"
        (event,) = logged(g)
        check_event(event)
        assert (event["source"], event["subject"]) == ("/endpoints/echo", "1")
        assert before.timestamp() - 0.1 <= datetime.fromisoformat(event["time"]).timestamp() <= after.timestamp() + 0.1
        data = event["data"]
        assert (data["version"], data["protocol"], data["status"], data["outcome"]) == ("1", "predict", 200, "ok")
        assert 0 <= data["queue_ms"] <= data["latency_ms"] and 0 <= data["run_ms"] <= data["latency_ms"]
        assert data["latency_ms"] <= (after - before).total_seconds() * 1000 + 100  # of two clocks
        assert data["trace_id"] == "0af7651916cd43dd8448eb211c80319c" and data["client"] == "test"
        assert data["request"] == {"content_type": "text/plain", "size": 5, "truncated": False, "text": "grün"}
        assert (data["response"]["text"], data["response"]["size"]) == ("nürg", 5)
        assert "good" not in json.dumps(event)  # the token
        segment = next(requests_of(g).iterdir())
        assert stat.S_IMODE(segment.stat().st_mode) == 0o600
        assert stat.S_IMODE(requests_of(g).stat().st_mode) == 0o700


def test_nothing_unless_asked():
    with serving(MODEL) as g:
        assert g.post("/predict/echo", "hi").status == 200
        assert flush(g) == 0 and list(requests_of(g).iterdir()) == []
        assert g.status("echo")["log"] is None


@pytest.mark.parametrize("sample, count", [(1.0, 100), (0.5, 50), (0.1, 10), (0.0, 0)])
def test_samples_are_even(sample, count):
    with serving(MODEL, log={"sample": sample}) as g:
        connection = g.connection()
        for i in range(100):
            assert g.post("/predict/echo", f"n{i}", connection=connection).status == 200
        numbers = [int(e["data"]["request"]["text"][1:]) for e in logged(g)]
        assert abs(len(numbers) - count) <= 1 and len(set(numbers)) == len(numbers)
        if 0 < sample < 1:
            gaps = [b - a for a, b in zip(numbers, numbers[1:])]
            assert max(gaps) <= 2 / sample, numbers
        # What the gateway answers by itself, and who has no token, are no requests to a model.
        written = g.status("echo")["log"]["written"] if count else 0
        assert g.get("/v2/models/echo").status == 200
        assert g.post("/predict/echo", "x", token="bad").status == 401
        flush(g)
        assert (g.status("echo")["log"]["written"] if count else 0) == written == len(numbers)


def test_bodies_are_cut_and_bytes_are_base64():
    with serving(MODEL, log={"sample": 1, "body": 8}) as g:
        g.post("/predict/echo", "0123456789")
        g.post("/predict/echo", "1234567ü")
        g.post("/predict/echo", bytes([255, 0, 1, 2]))
        header = json.dumps({"inputs": [{"name": "x", "shape": [4], "datatype": "UINT8",
                                         "parameters": {"binary_data_size": 4}}]}).encode()
        tensors = g.post("/v2/models/echo/infer", header + bytes([0, 200, 3, 4]),
                         headers={"Inference-Header-Content-Length": str(len(header)),
                                  "Content-Type": "application/octet-stream"})
        assert tensors.status == 200, tensors.text
        first, second, third, fourth = [e["data"]["request"] for e in logged(g)]
        assert (first["text"], first["size"], first["truncated"]) == ("01234567", 10, True)
        assert (second["text"], second["size"], second["truncated"]) == ("1234567", 9, True)
        assert body_of(third) == bytes([255, 0, 1, 2]) and not third["truncated"]
        assert fourth["size"] == len(header) + 4 and body_of(fourth) == header[:8]
        assert [e["data"]["protocol"] for e in closed(g)] == ["predict"] * 3 + ["infer"]
        for event in closed(g):
            check_event(event)


def test_large_bodies_full_of_quotes():
    with serving(MODEL, log={"sample": 1, "body": 65536}) as g:
        for _ in range(3):
            assert g.post("/predict/echo", "\x01" * 70000).status == 200
        events = logged(g)
        assert [e["data"]["request"]["text"] for e in events] == ["\x01" * 65536] * 3
        assert g.status("echo")["log"] == {"sample": 1, "written": 3, "dropped": 0}


def test_failures_have_their_outcome():
    with serving(MODEL, log={"sample": 1}, queue=0) as g:
        assert g.post("/predict/echo", "raise").status == 500
        assert g.post("/predict/echo", "hi", headers={"Slipway-Timeout-Ms": "no"}).status == 400
        assert g.infer("echo", {"inputs": "none"}).status == 400
        assert g.infer("echo", {"inputs": []}, version="9").status == 404
        assert g.post("/predict/echo", "sleep0.5", headers={"Slipway-Timeout-Ms": "50"}).status == 504
        time.sleep(0.6)
        connection = g.connection()
        connection.request("POST", "/predict/echo", b"sleep0.2", {"Authorization": "Bearer good"})
        time.sleep(0.05)
        connection.close()
        time.sleep(0.3)
        assert g.post("/predict/echo", "exit").status == 503
        seen = [(e["data"].get("status"), e["data"]["outcome"], e["data"].get("version")) for e in logged(g)]
        # A header that makes no sense is refused before the token is looked at.
        assert seen == [(500, "model_error", "1"), (400, "invalid", "1"), (404, "unavailable", "9"),
                        (504, "timeout", "1"), (None, "cancelled", "1"), (503, "worker_lost", "1")]
        for event in closed(g):
            check_event(event)
            assert ("response" in event["data"]) == ("status" in event["data"])
        cancelled = next(e["data"] for e in closed(g) if e["data"]["outcome"] == "cancelled")
        assert cancelled["request"]["text"] == "sleep0.2"
        assert "no such digit" in closed(g)[0]["data"]["response"]["text"]


def test_lines_are_written_without_asking():
    with serving(MODEL, log={"sample": 1}) as g:
        g.post("/predict/echo", "hi")
        deadline = time.monotonic() + SECONDS
        while not [p for p in requests_of(g).iterdir() if p.stat().st_size]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [p.suffix for p in requests_of(g).iterdir()] == [".part"]


def test_a_segment_ends_at_its_size():
    with serving(MODEL, log={"sample": 1, "body": 65536}) as g:
        connection = g.connection()
        for _ in range(20):
            g.post("/predict/echo", "x" * 65536, connection=connection)
        # Without a flush: 20 lines of twice 64 KiB are more than two segments.
        names = [p for p in requests_of(g).iterdir() if p.suffix == ".jsonl"]
        assert len(names) == 2 and all(1 << 20 <= p.stat().st_size <= (1 << 20) + (256 << 10) for p in names)
        with g.control.changed:
            assert g.control.changed.wait_for(
                lambda: [e["event"] for _, e in g.control.events].count("requests") == 2, SECONDS)
        assert len(logged(g)) == 20


def test_full_drops_and_counts():
    with serving(MODEL, log={"sample": 1}) as g:
        g.post("/predict/echo", "before")
        assert flush(g) == 1
        big = requests_of(g) / ("0" * 12 + "7000" + "8" + "0" * 15 + ".jsonl")
        with open(big, "wb") as file:
            file.truncate(CLOSED)
        g.kill()
        g.start()
        g.configure(g.endpoint("echo", log={"sample": 1}))
        g.wait_ready("echo")
        for _ in range(5):
            assert g.post("/predict/echo", "during").status == 200
        assert g.status("echo")["log"] == {"sample": 1, "written": 0, "dropped": 5}
        assert 'slipway_request_log_lines_total{endpoint="echo",result="dropped"} 5' in g.get("/metrics").text
        big.unlink()
        time.sleep(1.1)  # it looks at most once a second
        assert g.post("/predict/echo", "after").status == 200
        assert [e["data"]["request"]["text"] for e in logged(g)] == ["before", "after"]
        assert g.status("echo")["log"] == {"sample": 1, "written": 1, "dropped": 5}
        assert 'slipway_request_log_lines_total{endpoint="echo",result="written"} 1' in g.get("/metrics").text


def test_a_directory_that_is_gone_fails_no_request():
    with serving(MODEL, log={"sample": 1}) as g:
        shutil.rmtree(requests_of(g))
        assert g.post("/predict/echo", "hi").status == 200
        assert flush(g) == 0
        assert g.status("echo")["log"] == {"sample": 1, "written": 0, "dropped": 1}


def test_killed_gateway_leaves_a_segment_that_the_next_one_closes():
    with serving(MODEL, log={"sample": 1}) as g:
        for i in range(10):
            g.post("/predict/echo", f"n{i}")
        deadline = time.monotonic() + SECONDS
        while g.status("echo")["log"]["written"] < 10:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        g.kill()
        assert closed(g) == []
        (requests_of(g) / "stranger.part").write_text("x")
        g.start()
        assert [e["data"]["request"]["text"] for e in closed(g)] == [f"n{i}" for i in range(10)]
        assert (requests_of(g) / "stranger.part").exists()


def test_a_gateway_that_stops_closes_its_segments():
    with serving(MODEL, log={"sample": 1}) as g:
        g.post("/predict/echo", "last")
        assert g.stop() == 0
        assert [e["data"]["request"]["text"] for e in closed(g)] == ["last"]


def test_an_endpoint_that_goes_closes_its_segment():
    with serving(MODEL, log={"sample": 1}) as g:
        g.post("/predict/echo", "mine")
        running = threading.Thread(target=g.post, args=("/predict/echo", "sleep0.3"))
        running.start()
        time.sleep(0.1)
        g.configure()
        running.join()
        flush(g)
        assert [e["data"]["request"]["text"] for e in closed(g)] == ["mine"]


def test_one_endpoint_of_two():
    with Gateway() as g:
        g.package("echo", MODEL)
        g.configure(g.endpoint("a", log={"sample": 1}),
                    g.endpoint("b", [g.route(replicas=(2,))], log={"sample": 1}, public=True))
        g.start_worker("echo", 1)
        g.start_worker("echo", 2)
        g.wait_ready("a")
        g.wait_ready("b")
        g.post("/predict/a", "to a")
        g.post("/predict/b", "to b", token=None)
        assert flush(g, endpoint="b") == 1
        (event,) = closed(g)
        assert event["source"] == "/endpoints/b" and "client" not in event["data"]
        assert flush(g) == 1
        assert not g.control.request("flush-requests", endpoint="c").get("ok")


@pytest.mark.parametrize("log", [{"sample": 2}, {"sample": -1}, {}, {"sample": 1, "body": 65537}, {"sample": 1, "x": 1}])
def test_configurations_that_are_refused(log):
    with Gateway() as g:
        reply = g.control.request("configure", endpoints=[g.endpoint("echo", log=log)])
        assert reply["error"]["code"] == "invalid_argument"


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
def test_a_gateway_with_another_user_writes_too():
    with Gateway("--user", "65533") as g:
        os.chmod(g.directory, 0o755)
        g.package("echo", MODEL)
        g.configure(g.endpoint("echo", log={"sample": 1}, public=True))
        g.start_worker("echo")
        g.wait_ready("echo")
        g.post("/predict/echo", "hi", token=None)
        assert len(logged(g)) == 1
        assert requests_of(g).stat().st_uid == 65533
        assert [p.stat().st_uid for p in requests_of(g).iterdir()] == [65533]


def test_several_texts_and_answers_given_again_are_one_line_each():
    with Gateway() as g:
        g.package("echo", MODEL)
        g.configure(g.endpoint("echo", [g.route(deterministic=True)], cache=1 << 20, log={"sample": 1}))
        g.start_worker("echo")
        g.wait_ready("echo")
        reply = g.post("/v1/models/echo:predict", json.dumps({"instances": ["ab", "cd"]}))
        assert reply.json == {"predictions": ["ba", "dc"]}
        for _ in range(2):
            assert g.post("/predict/echo", "abc").text == "cba"
        several, first, again = [e["data"] for e in logged(g)]
        assert json.loads(several["response"]["text"]) == reply.json and "run_ms" not in several
        assert "run_ms" in first and "run_ms" not in again and "queue_ms" not in again
        assert again["response"] == first["response"] and again["outcome"] == "ok"


def test_copies_for_a_shadow_are_not_logged():
    with Gateway() as g:
        g.package("echo", MODEL)
        g.configure(g.endpoint("echo", [g.route(), g.route("2", replicas=(2,), shadow=True)], log={"sample": 1}))
        g.start_worker("echo", 1)
        g.start_worker("echo", 2)
        g.wait_ready("echo", replicas=2)
        for _ in range(5):
            assert g.post("/predict/echo", "abc").status == 200
        deadline = time.monotonic() + SECONDS
        while g.status("echo")["routes"][1]["shadow"]["copies"] < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [e["subject"] for e in logged(g)] == ["1"] * 5
