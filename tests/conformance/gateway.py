"""`slipway gateway` without a daemon: an introspection server, workers, and the control socket.

    with Gateway() as g:
        g.package("echo", "def init(): pass\ndef predict(text): return text")
        g.configure(g.endpoint("echo"))
        g.start_worker("echo"); g.wait_ready("echo")
        g.post("/predict/echo", "hello")
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SLIPWAY_BINARY", str(ROOT / "build/src/slipway"))
WORKER = str(pathlib.Path(BINARY).parent / "worker" / "slipway_worker.py")
SECONDS = 30  # sanitizer builds on a busy machine


def is_instrumented():
    """A build with a sanitizer: sizes of processes mean nothing."""
    content = pathlib.Path(BINARY).read_bytes()
    return b"__asan_init" in content or b"__tsan_init" in content


class UnixServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)


class Introspection:
    """RFC 7662 on a Unix socket. tokens: text → the answer's fields; what is not there is inactive."""

    def __init__(self, path):
        self.path, self.tokens, self.asked, self.delay, self.raw = str(path), {}, [], 0, None
        self.server = None

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                token = form["token"][0]
                outer.asked.append(token)
                time.sleep(outer.delay)
                found = outer.tokens.get(token)
                body = json.dumps({"active": True, **found} if found else {"active": False}).encode()
                if outer.raw is not None:
                    body = outer.raw
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")  # so that stop() leaves none behind
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

            def address_string(self):
                return "unix"

        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = UnixServer(self.path, Handler, bind_and_activate=False)
        self.server.daemon_threads = True
        self.server.server_bind()
        self.server.server_activate()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            os.unlink(self.path)
            self.server = None


class Control:
    """The daemon's side of control.sock: requests, and events as they come."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.events, self.replies, self.changed = [], {}, threading.Condition()
        self.next_id = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for line in self.file:
                message = json.loads(line)
                with self.changed:
                    if "event" in message:
                        self.events.append((time.monotonic(), message))
                    else:
                        self.replies[message.get("id")] = message
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass

    def send_text(self, text):
        self.file.write(text + "\n")
        self.file.flush()

    def request(self, op, **fields):
        self.next_id += 1
        self.send_text(json.dumps({"id": self.next_id, "op": op, **fields}))
        with self.changed:
            assert self.changed.wait_for(lambda: self.next_id in self.replies, SECONDS), op
            return self.replies.pop(self.next_id)

    def wait_event(self, state, replica=None, after=0):
        def find():
            for when, event in self.events[after:]:
                if event.get("state") == state and replica in (None, event["id"]):
                    return when, event
            return None

        with self.changed:
            assert self.changed.wait_for(find, SECONDS), (state, replica, self.events)
            return find()

    def wait_load(self, condition, after=0, event="load"):
        """The first event of a route, from the `after`th event on, for which the condition holds."""

        def find():
            return next((e for _, e in self.events[after:] if e["event"] == event and condition(e)), None)

        with self.changed:
            assert self.changed.wait_for(find, SECONDS), self.events[after:]
            return find()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.file.close()
        self.socket.close()


class Gateway:
    def __init__(self, *arguments, under=()):
        # A short path: addresses of Unix sockets have 108 bytes.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="slipway-gw-"))
        self.run = self.directory / "run"
        self.log = open(self.directory / "log", "w+")
        self.arguments, self.under = list(arguments), list(under)
        self.introspection = Introspection(self.directory / "auth.sock")
        self.introspection.tokens["good"] = {"scope": "predict:*", "exp": time.time() + 3600, "client_id": "test"}
        self.introspection.start()
        self.process, self.control, self.workers, self.port = None, None, {}, None
        self.started = []  # every worker; self.workers has the newest of each number
        self.endpoints = {}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        for worker in self.started:
            worker.kill()
            worker.wait()
        status = self.stop()
        self.introspection.stop()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        if exception[0]:
            print(text)
        shutil.rmtree(self.directory, ignore_errors=True)
        for report in ("AddressSanitizer", "runtime error:", "LeakSanitizer", "ThreadSanitizer"):
            assert report not in text, text
        if not exception[0] and status is not None:
            assert status == 0, f"the gateway ended with {status}\n{text}"

    def start(self, port=0):
        self.log.seek(0, os.SEEK_END)
        begin = self.log.tell()
        command = [*self.under, BINARY, "gateway", "--directory", str(self.run), "--listen", f"127.0.0.1:{port}",
                   "--introspect", f"unix:{self.introspection.path}", *self.arguments]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + SECONDS
        while True:
            text = pathlib.Path(self.log.name).read_text()[begin:]
            urls = [word[4:] for word in text.split() if word.startswith("url=")]
            try:
                if urls:
                    self.control = Control(str(self.run / "control.sock"))
                    break
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.01)
        self.urls = urls
        self.port = next((int(u.rsplit(":", 1)[1]) for u in urls if not u.startswith("unix")), None)

    def stop(self):
        if self.control:
            self.control.close()
            self.control = None
        if not self.process:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(SECONDS)
        self.process = None
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None
        self.control.close()
        self.control = None

    # -- what is served --

    def package(self, name, text):
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        (directory / "model.py").write_text(text)
        return directory

    def replica(self, number):
        return f"{number:032x}"

    def route(self, version="1", replicas=(1,), weight=100, **fields):
        return {"version": version, "weight": weight, "shadow": False,
                "replicas": [{"id": self.replica(n), "key": f"key-{n}"} for n in replicas], **fields}

    def endpoint(self, name, routes=None, **fields):
        return {"name": name, "project": None, "model": f"text/{name}", "timeout_ms": 10000, "queue": 100,
                "routes": [self.route()] if routes is None else routes, **fields}

    def configure(self, *endpoints):
        reply = self.control.request("configure", endpoints=list(endpoints))
        assert reply.get("ok"), reply
        return reply

    def start_worker(self, package, number=1, key=None, python=sys.executable, environment=None):
        """The real harness on a package's directory."""
        directory = self.directory / package
        self.workers[number] = subprocess.Popen(
            [python, WORKER, str(directory)], stdout=self.log, stderr=self.log, cwd=directory,
            env={**os.environ, "SLIPWAY_GATEWAY_SOCKET": str(self.run / "worker.sock"),
                 "SLIPWAY_REPLICA_ID": self.replica(number), "SLIPWAY_REPLICA_KEY": key or f"key-{number}",
                 **(environment or {})})
        self.started.append(self.workers[number])
        return self.workers[number]

    def status(self, endpoint=None):
        reply = self.control.request("status")
        assert reply.get("ok"), reply
        if endpoint is None:
            return reply
        return next(e for e in reply["endpoints"] if e["name"] == endpoint)

    def wait_ready(self, endpoint, replicas=1):
        deadline = time.monotonic() + SECONDS
        while True:
            state = self.status(endpoint)
            ready = [r for route in state["routes"] for r in route["replicas"] if r["state"] == "ready"]
            if len(ready) >= replicas:
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.01)

    # -- requests --

    def connection(self, timeout=SECONDS):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, token="good", headers=None, timeout=SECONDS, connection=None):
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        own = connection or self.connection(timeout)
        try:
            own.request(method, path, body.encode() if isinstance(body, str) else body, headers)
            answer = own.getresponse()
            data = answer.read()
        finally:
            if not connection:
                own.close()
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        return types.SimpleNamespace(status=answer.status, text=data.decode("utf-8", "replace"), body=data, json=value,
                                     headers={k.lower(): v for k, v in answer.getheaders()})

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def infer(self, model, body, version=None, **options):
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
        return self.post(path, json.dumps(body), **options)


ECHO = "def init():\n    pass\n\n\ndef predict(text):\n    return text\n"


@contextlib.contextmanager
def serving(text=ECHO, name="echo", arguments=(), worker=True, **fields):
    """A gateway with one endpoint and one worker that is ready."""
    with Gateway(*arguments) as gateway:
        gateway.package(name, text)
        gateway.configure(gateway.endpoint(name, **fields))
        if worker:
            gateway.start_worker(name)
            gateway.wait_ready(name)
        yield gateway
