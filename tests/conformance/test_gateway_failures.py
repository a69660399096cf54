"""What the gateway does when models, workers, clients and the gateway itself fail."""

import json
import os
import signal
import socket
import threading
import time

import pytest

from gateway import SECONDS, Gateway, is_instrumented, serving

MODEL = '''
import os
import time


def init():
    if os.environ.get("INIT") == "fail":
        raise RuntimeError("no weights")
    time.sleep(float(os.environ.get("INIT_SECONDS", "0")))


def predict(text):
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
    if text == "exit":
        os._exit(3)
    if text == "pid":
        return str(os.getpid())
    return text
'''


class Load:
    """Closed-loop requests from some threads, until stopped; every answer is kept."""

    def __init__(self, g, body="a", threads=4, path="/predict/echo"):
        self.g, self.body, self.path, self.answers, self.running = g, body, path, [], True
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        [t.start() for t in self.threads]

    def run(self):
        connection = None
        while self.running:
            try:
                connection = connection or self.g.connection()
                status = self.g.post(self.path, self.body, connection=connection).status
            except OSError:
                status, connection = "broken", None
            self.answers.append((time.monotonic(), status))
            if status == "broken":
                time.sleep(0.01)

    def stop(self):
        self.running = False
        [t.join() for t in self.threads]
        return [status for _, status in self.answers]


def in_background(fn):
    result = []
    thread = threading.Thread(target=lambda: result.append(fn()), daemon=True)
    thread.start()
    return lambda: thread.join() or result[0]


def test_a_deadline_that_the_client_set():
    with serving(MODEL) as g:
        begun = time.monotonic()
        reply = g.post("/predict/echo", "sleep 1", headers={"Slipway-Timeout-Ms": "100"})
        assert (reply.status, reply.json["error"]["code"]) == (504, "timeout")
        assert time.monotonic() - begun < 0.9
        # The model finishes what nobody waits for, and goes on; it is not killed for a client's impatience.
        assert g.post("/predict/echo", "a").text == "a"
        assert g.status("echo")["routes"][0]["replicas"][0]["bad_answers"] == 0
        assert g.post("/predict/echo", "a", headers={"Slipway-Timeout-Ms": "soon"}).status == 400


def test_a_call_that_hangs_is_answered_and_its_worker_killed():
    with serving(MODEL, timeout_ms=500) as g:
        reply = g.post("/predict/echo", "sleep 60")
        assert reply.status == 504
        _, event = g.control.wait_event("failed")
        assert "time limit" in event["message"] and event["killed"] is True
        assert g.workers[1].wait(SECONDS) == -signal.SIGKILL
        assert g.get("/v2/models/echo/ready", token=None).status == 503
        g.start_worker("echo")
        g.wait_ready("echo")
        assert g.post("/predict/echo", "a").text == "a"


def test_a_full_queue_refuses_at_once():
    with serving(MODEL, queue=2) as g:
        running = [in_background(lambda: g.post("/predict/echo", "sleep 1").status) for _ in range(3)]
        deadline = time.monotonic() + SECONDS
        while g.status("echo")["routes"][0]["queued"] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        begun = time.monotonic()
        reply = g.post("/predict/echo", "a")
        assert reply.status == 503 and int(reply.headers["retry-after"]) >= 1
        assert time.monotonic() - begun < 0.5
        assert [wait() for wait in running] == [200, 200, 200]
        assert g.status("echo")["routes"][0]["outcomes"]["queue_full"] == 1


def test_requests_wait_for_the_first_replica():
    with serving(MODEL, worker=False) as g:
        wait = in_background(lambda: g.post("/predict/echo", "a"))
        time.sleep(0.2)
        g.start_worker("echo")
        assert wait().text == "a"
        assert g.post("/predict/nothing", "a").status == 404


def test_a_client_that_leaves_frees_its_place():
    with serving(MODEL, queue=1) as g:
        running = in_background(lambda: g.post("/predict/echo", "sleep 0.5").status)
        deadline = time.monotonic() + SECONDS
        while g.status("echo")["routes"][0]["running"] < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", g.port)) as s:
            s.sendall(b"POST /predict/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 1\r\n\r\na")
            while g.status("echo")["routes"][0]["queued"] < 1 and time.monotonic() < deadline:
                time.sleep(0.01)
        while g.status("echo")["routes"][0]["queued"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert g.status("echo")["routes"][0]["outcomes"]["cancelled"] == 1
        assert running() == 200 and g.post("/predict/echo", "a").text == "a"


def test_killing_a_worker_fails_only_what_it_ran():
    with Gateway() as g:
        g.package("echo", MODEL)
        g.configure(g.endpoint("echo"))
        g.start_worker("echo")
        g.wait_ready("echo")
        load = Load(g, "sleep 0.002", threads=8)
        for _ in range(5):
            time.sleep(0.15)
            seen = len(g.control.events)
            killed = time.monotonic()
            g.workers[1].kill()
            when, event = g.control.wait_event("gone", after=seen)
            assert when - killed < 1 and "ended" in event["message"]
            g.workers[1].wait()
            g.start_worker("echo")
            g.control.wait_event("ready", after=seen)
            g.wait_ready("echo")
        time.sleep(0.2)
        statuses = load.stop()
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= 5  # one a kill: the replica runs one at a time
        assert statuses.count(200) > 50
        assert g.status("echo")["routes"][0]["outcomes"]["worker_lost"] == statuses.count(503)


def test_a_worker_that_dies_by_itself():
    with serving(MODEL) as g:
        reply = g.post("/predict/echo", "exit")
        assert reply.status == 503 and "while it ran the request" in reply.json["error"]["message"]
        assert g.get("/health", token=None).status == 503
        assert g.get("/v2/health/ready", token=None).status == 503
        assert g.get("/v2/health/live", token=None).status == 200


def test_a_worker_that_cannot_start():
    with serving(MODEL, worker=False) as g:
        g.start_worker("echo", environment={"INIT": "fail"})
        _, event = g.control.wait_event("failed")
        assert "RuntimeError: no weights" in event["message"]
        assert g.workers[1].wait(SECONDS) == 1


def test_killing_the_gateway_keeps_the_model():
    with serving(MODEL) as g:
        port, pid = g.port, g.post("/predict/echo", "pid").text
        for _ in range(3):
            g.kill()
            begun = time.monotonic()
            g.start(port)
            g.configure(g.endpoint("echo"))
            g.wait_ready("echo")
            assert g.post("/predict/echo", "pid").text == pid
            assert time.monotonic() - begun < 10


def test_wrong_keys_and_strangers():
    with serving(MODEL, worker=False) as g:
        g.start_worker("echo", key="wrong")
        g.start_worker("echo", number=99)
        time.sleep(0.5)
        assert g.status("echo")["routes"][0]["replicas"][0]["state"] == "absent"
        g.start_worker("echo", number=1)
        g.wait_ready("echo")


def test_deploying_drains_the_old_version():
    with Gateway() as g:
        g.package("echo", MODEL)
        old, new = g.route("1", [1]), g.route("2", [2])
        g.configure(g.endpoint("echo", [old]))
        g.start_worker("echo", 1)
        g.wait_ready("echo")
        load = Load(g, "sleep 0.005")
        g.configure(g.endpoint("echo", [old, {**new, "weight": 0}]))
        g.start_worker("echo", 2)
        g.wait_ready("echo", 2)
        slow = in_background(lambda: g.post("/predict/echo", "sleep 0.5").status)
        time.sleep(0.1)
        g.configure(g.endpoint("echo", [new]))
        _, event = g.control.wait_event("drained", g.replica(1))
        time.sleep(0.2)
        assert slow() == 200
        assert set(load.stop()) == {200}
        assert [r["version"] for r in g.status("echo")["routes"]] == ["2"]
        # Wished again before it was stopped, it is taken back.
        g.configure(g.endpoint("echo", [old, new]))
        g.workers[1].terminate()
        assert g.workers[1].wait(SECONDS) == 0


def test_sigterm_answers_what_runs():
    with serving(MODEL) as g:
        wait = in_background(lambda: g.post("/predict/echo", "sleep 0.6"))
        deadline = time.monotonic() + SECONDS
        while g.status("echo")["routes"][0]["running"] < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        process = g.process
        process.terminate()
        time.sleep(0.1)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", g.port), 1)
        reply = wait()
        assert reply.status == 200 and reply.headers["connection"] == "close"
        assert process.wait(SECONDS) == 0


SIGNALS_ITSELF = '''
import os
import signal
import threading
import time


def init():
    pass


def predict(text):
    def send():
        time.sleep(0.2)  # the main thread sleeps in the library then
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    threading.Thread(target=send).start()
    return text
'''


def test_sigterm_that_another_thread_takes_ends_the_worker():
    with serving(SIGNALS_ITSELF) as g:
        assert g.post("/predict/echo", "a").status == 200
        assert g.workers[1].wait(SECONDS) == 0


def handles(pid, number):
    """True once the process has a handler for the signal."""
    with open(f"/proc/{pid}/status") as f:
        caught = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt"))
    return bool(caught >> number - 1 & 1)


def test_sigterm_ends_a_worker_that_waits_for_its_gateway():
    with Gateway() as g:
        g.package("echo", MODEL)
        early = g.start_worker("echo", environment={"SLIPWAY_GATEWAY_SOCKET": str(g.run / "none.sock")})
        unknown = g.start_worker("echo", number=2)  # is refused, and tries again
        for worker in (early, unknown):
            while not handles(worker.pid, signal.SIGTERM):
                time.sleep(0.05)
            worker.terminate()
            assert worker.wait(SECONDS) == 1


def test_control_requests_that_are_wrong():
    with serving(MODEL, worker=False) as g:
        before = g.status()
        good = g.endpoint("echo")
        for wrong in ({"endpoints": 1}, {}, {"endpoints": [{}]}, {"endpoints": [{**good, "nonsense": 1}]},
                      {"endpoints": [good, good]}, {"endpoints": [{**good, "timeout_ms": "soon"}]},
                      {"endpoints": [{**good, "routes": [g.route("1"), g.route("1")]}]},
                      {"endpoints": [{**good, "routes": [g.route("1"), g.route("2")]}]},
                      {"endpoints": [{**good, "routes": [{**g.route("1"), "replicas": [{"id": "zz", "key": "k"}]}]}]}):
            reply = g.control.request("configure", **wrong)
            assert reply["error"]["code"] == "invalid_argument", (wrong, reply)
        assert g.status()["endpoints"] == before["endpoints"]
        assert "no op" in g.control.request("dance")["error"]["message"]
        g.control.send_text("not json")
        g.control.send_text("[]")
        assert g.status("echo")["name"] == "echo"
        g.configure()
        assert g.status()["endpoints"] == []
        assert g.post("/predict/echo", "a").status == 404


def test_loads_and_unloads_leave_nothing_behind():
    def memory():
        with open(f"/proc/{g.process.pid}/status") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith(("RssAnon", "RssShmem")))

    with serving(MODEL, worker=False) as g:
        sizes = []
        for i in range(40):
            routes = [g.route(str(i), [i + 1])]
            g.configure(g.endpoint("echo", routes))
            worker = g.start_worker("echo", i + 1)
            g.wait_ready("echo")
            assert g.post("/predict/echo", "b" * 100_000).status == 200
            g.configure(g.endpoint("echo", []))
            worker.terminate()
            worker.wait(SECONDS)
            g.workers.pop(i + 1)
            sizes.append(memory())
        if not is_instrumented():  # a sanitizer keeps what was freed
            assert max(sizes[10:]) - min(sizes[10:]) < 2048, sizes
        assert len(os.listdir(f"/proc/{g.process.pid}/fd")) < 40
