"""What the gateway tells of the load of a route, and what it does with a route that has no replica."""

import threading
import time

from gateway import ECHO, Control, serving

SLOW = "import time\n\n\ndef init():\n    pass\n\n\ndef predict(text):\n    time.sleep(float(text))\n    return text\n"
SCALE = {"queue_time_ms": 5, "to_zero": False}
TO_ZERO = {"queue_time_ms": 5, "to_zero": True}


def in_threads(count, call):
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join()


def route(g, replicas=(1,), scale=SCALE):
    return [g.route(replicas=replicas, scale=scale)]


def test_tells_that_requests_wait_and_that_none_come():
    with serving(SLOW) as g:
        g.configure(g.endpoint("echo", route(g)))
        g.control.wait_load(lambda e: e["level"] == "idle" and e["ready"] == 1)
        after = len(g.control.events)
        threads = in_threads(4, lambda: g.post("/predict/echo", "0.2"))
        over = g.control.wait_load(lambda e: e["level"] == "over" and e["requests"] == 4, after)
        assert (over["endpoint"], over["version"]) == ("echo", "1")
        assert over["queue_time_us"] > 5000 and over["queued"] > 0 and over["running"] == 1
        assert 0.5 < over["busy"] <= 1.01
        join(threads)
        g.control.wait_load(lambda e: e["level"] == "idle", after)
        # Nothing happens, and nothing is told.
        told = len(g.control.events)
        time.sleep(0.5)
        assert len(g.control.events) == told


def test_tells_when_one_replica_fewer_would_do():
    with serving(SLOW) as g:
        g.configure(g.endpoint("echo", route(g, (1, 2, 3))))
        for number in (2, 3):
            g.start_worker("echo", number)
        g.wait_ready("echo", 3)
        after = len(g.control.events)
        for _ in range(20):  # one after the other: at most one of three is at work
            g.post("/predict/echo", "0.02")
        slack = g.control.wait_load(lambda e: e["level"] == "slack" and e["ready"] == 3, after)
        assert slack["busy"] <= 1.01 and slack["queue_time_us"] == 0


def test_routes_without_scale_are_not_measured():
    with serving(SLOW) as g:
        join(in_threads(3, lambda: g.post("/predict/echo", "0.1")))
        time.sleep(0.2)
        assert not [e for _, e in g.control.events if e["event"] == "load"]


def test_a_route_without_replicas_is_ready_and_waits_for_one():
    with serving(ECHO, worker=False) as g:
        g.configure(g.endpoint("echo", route(g, (), TO_ZERO)))
        assert g.get("/v2/models/echo/ready").status == 200
        assert g.get("/v2/health/ready").status == 200
        assert g.status("echo")["ready"]
        time.sleep(0.3)
        assert not [e for _, e in g.control.events if e.get("queued")]  # asking so does not start anything

        replies, begin = [], time.monotonic()
        threads = in_threads(3, lambda: replies.append(g.post("/predict/echo", "hi")))
        g.control.wait_load(lambda e: e["level"] == "over" and e["queued"] == 3 and e["ready"] == 0)
        g.configure(g.endpoint("echo", route(g, (1,), TO_ZERO)))
        assert g.get("/v2/models/echo/ready").status == 200
        g.start_worker("echo")
        started = g.control.wait_load(lambda e: e["waited"] == 3, event="cold_start")
        join(threads)
        passed = (time.monotonic() - begin) * 1000 + 1
        assert [(r.status, r.text) for r in replies] == [(200, "hi")] * 3
        assert all(0 <= ms <= passed for ms in (started["ms"], *(int(r.headers["slipway-cold-start-ms"]) for r in replies)))
        assert "slipway-cold-start-ms" not in g.post("/predict/echo", "hi").headers
        assert 'slipway_cold_start_seconds_count{endpoint="echo",version="1"} 1' in g.get("/metrics", token=None).text


def test_the_queue_of_a_route_that_sleeps_is_bounded():
    with serving(ECHO, worker=False) as g:
        g.configure(g.endpoint("echo", route(g, (), TO_ZERO), queue=2))
        threads = in_threads(2, lambda: g.post("/predict/echo", "hi", headers={"Slipway-Timeout-Ms": "1500"}))
        g.control.wait_load(lambda e: e["queued"] == 2)
        refused = g.post("/predict/echo", "hi")
        assert refused.status == 503 and refused.headers["retry-after"]
        join(threads)


def test_waiting_in_vain_says_why():
    with serving("def init():\n    raise RuntimeError('no weights here')\n\n\ndef predict(text):\n    return text\n", worker=False) as g:
        g.configure(g.endpoint("echo", route(g, (), TO_ZERO)))
        reply = g.post("/predict/echo", "hi", headers={"Slipway-Timeout-Ms": "200"})
        assert reply.status == 504 and "no replica of version 1 is ready yet" in reply.text

        replies = []
        threads = in_threads(1, lambda: replies.append(g.post("/predict/echo", "hi", headers={"Slipway-Timeout-Ms": "3000"})))
        g.control.wait_load(lambda e: e["queued"] == 1)
        g.configure(g.endpoint("echo", route(g, (1,), TO_ZERO)))
        g.start_worker("echo")
        g.control.wait_event("failed")
        assert g.get("/v2/models/echo/ready").status == 503
        join(threads)
        assert replies[0].status == 504 and "no weights here" in replies[0].text

        g.control.close()
        reply = g.post("/predict/echo", "hi", headers={"Slipway-Timeout-Ms": "200"})
        assert reply.status == 504
        g.control = Control(str(g.run / "control.sock"))


def test_a_daemon_that_comes_back_learns_who_waits():
    with serving(ECHO, worker=False) as g:
        g.configure(g.endpoint("echo", route(g, (), TO_ZERO)))
        g.control.close()
        replies = []
        threads = in_threads(1, lambda: replies.append(g.post("/predict/echo", "hi")))
        time.sleep(0.3)
        g.control = Control(str(g.run / "control.sock"))
        g.control.wait_load(lambda e: e["level"] == "over" and e["queued"] == 1)
        g.configure(g.endpoint("echo", route(g, (1,), TO_ZERO)))
        g.start_worker("echo")
        join(threads)
        assert replies[0].text == "hi"


def test_a_lost_replica_is_not_sleep():
    with serving(ECHO) as g:
        g.configure(g.endpoint("echo", route(g, (1,), TO_ZERO)))
        assert g.get("/v2/models/echo/ready").status == 200
        g.workers[1].kill()
        g.control.wait_event("gone")
        assert g.get("/v2/models/echo/ready").status == 503


def test_bad_scale_is_refused_whole():
    with serving(ECHO) as g:
        for scale in ({"queue_time_ms": 0}, {"queue_time_ms": "5"}, {"to_zero": True}, {"queue_time_ms": 5, "colour": 1}):
            reply = g.control.request("configure", endpoints=[g.endpoint("echo", route(g, (1,), scale))])
            assert reply["error"]["code"] == "invalid_argument", reply
        assert g.post("/predict/echo", "hi").text == "hi"
