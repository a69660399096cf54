"""Workers that break the protocol: the gateway counts, kills and goes on."""

import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

import pytest

import hostile
from gateway import SECONDS, Gateway, serving
from test_gateway_failures import Load, in_background

HOSTILE = str(pathlib.Path(hostile.__file__))


def start(g, seed, number=1):
    g.workers[number] = subprocess.Popen(
        [sys.executable, HOSTILE, str(g.run / "worker.sock"), g.replica(number), f"key-{number}", str(seed)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return g.workers[number]


def test_the_workers_memory_cannot_be_written_where_it_is_the_gateways():
    import mmap

    with serving(worker=False) as g:
        # In this process: nothing here makes the gateway kill it.
        worker = hostile.Worker(str(g.run / "worker.sock"), g.replica(1), "key-1")
        with pytest.raises(OSError):
            mmap.mmap(worker.fds[0], 4096)
        with pytest.raises(OSError):
            os.pwrite(worker.fds[0], b"x", 0)
        for fd in worker.fds[:2]:
            for size in (0, 1 << 40):
                with pytest.raises(OSError):
                    os.ftruncate(fd, size)
        with pytest.raises(OSError):
            fd = os.open(f"/proc/self/fd/{worker.fds[0]}", os.O_RDWR)
            mmap.mmap(fd, 4096)
        worker.close()


def test_a_late_answer_is_dropped():
    with serving(worker=False) as g:
        worker = hostile.Worker(str(g.run / "worker.sock"), g.replica(1), "key-1")
        worker.send(hostile.READY)
        g.wait_ready("echo")
        wait = in_background(lambda: g.post("/predict/echo", "a", headers={"Slipway-Timeout-Ms": "100"}).status)
        submission = worker.wait()
        assert wait() == 504
        worker.answer(submission, b"late")
        wait = in_background(lambda: g.post("/predict/echo", "b"))
        worker.answer(worker.wait(), b"in time")
        assert wait().text == "in time"
        assert g.status("echo")["routes"][0]["replicas"][0]["bad_answers"] == 0
        worker.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_worker_that_breaks_the_protocol_at_random(seed):
    with Gateway() as g:
        g.package("good", "def init(): pass\ndef predict(text): return 'ok'")
        good = g.endpoint("good", [g.route("1", [2])])
        batch = {"size": 4, "delay_us": 500} if seed % 2 else None
        g.configure(g.endpoint("echo", [g.route(batch=batch)], timeout_ms=1500), good)
        g.start_worker("good", 2)
        g.wait_ready("good")
        load, other = Load(g), Load(g, path="/predict/good", threads=1)
        for i in range(4):
            worker = start(g, seed * 100 + i)
            deadline = time.monotonic() + 3
            while worker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            worker.kill()
            worker.wait()
        statuses, others = load.stop(), other.stop()
        assert set(statuses) <= {200, 500, 503, 504}, set(statuses)
        assert set(others) == {200}  # a neighbour notices nothing
        assert g.process.poll() is None
        g.package("echo", "def init(): pass\ndef predict(text): return text")
        g.start_worker("echo", 1)
        g.wait_ready("echo")
        assert g.post("/predict/echo", "again").text == "again"


def test_nonsense_on_the_workers_socket():
    import socket

    with serving() as g:
        for data in (b"", b"x", b"\0" * 5000, b"\xff" * hostile.MESSAGE.size):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.connect(str(g.run / "worker.sock"))
            script = f"import socket;s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);s.connect({str(g.run / 'worker.sock')!r});s.send({data!r});s.recv(10)"
            subprocess.run([sys.executable, "-c", script], timeout=SECONDS, stderr=subprocess.DEVNULL)
            s.close()
        assert g.post("/predict/echo", "a").text == "a"


def test_words_of_a_worker_need_not_be_text():
    """Its name, its message, the name of an output, its reason to fail: none of it ends the gateway."""
    name = b"\xff" + "\u00e9".encode() * 60
    infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
    frame = struct.pack("<2I128s2I8q2Q", 0x31465753, 1, b"\xe9", 10, 1, 1, *[0] * 7, 256, 4).ljust(256, b"\0") + b"\0" * 4

    with serving(worker=False) as g:
        worker = hostile.Worker(str(g.run / "worker.sock"), g.replica(1), "key-1", text=name)
        worker.send(hostile.READY)
        g.wait_ready("echo")
        assert g.status("echo")["routes"][0]["replicas"][0]["runtime"].startswith("?\u00e9")
        wait = in_background(lambda: g.post("/predict/echo", "a"))
        worker.answer(worker.wait(), name, status=1)
        assert wait().status == 500
        wait = in_background(lambda: g.infer("echo", infer))
        worker.answer(worker.wait(), frame)
        assert wait().status in (500, 502)
        worker.send(hostile.FAILED, text=name)
        g.control.wait_event("failed")
        worker.close()
        assert g.process.poll() is None


def test_a_message_may_cut_a_character():
    long = "\u00e9" * 100
    with serving() as g:
        infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [long]}]}
        assert g.infer("echo", infer).status == 400
        assert g.get("/v2/models/a" + "%C3%A9" * 100).status == 404
        assert g.get("/v2/models/ab" + "%C3%A9" * 100).status == 404
        assert g.post("/predict/echo", "a").text == "a"
