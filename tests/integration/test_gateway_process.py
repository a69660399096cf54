"""The gateway as a process of the daemon: its user, its socket, its end."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import Client, processes_of, wait_until

PACKAGE = "def init():\n    pass\n\ndef predict(text):\n    return text\n"


@pytest.fixture
def serve(cli, tmp_path):
    """serve() makes the endpoint `echo`."""

    def serve(*options):
        (tmp_path / "model.py").write_text(PACKAGE)
        cli("model", "push", "test/echo", tmp_path / "model.py")
        return cli.json("endpoint", "create", "echo", "test/echo@1", *options)

    return serve


def gateway_of(client):
    return client.get("/api/v1/gateway")["gateway"]


def problem_of(client):
    return client.get("/api/v1/status")["serve_problem"]


def wait_for_gateway(client, other_than=None):
    def up():
        gateway = gateway_of(client)
        return gateway if gateway["state"] == "up" and gateway["pid"] != other_than else None

    return wait_until(up, what="a gateway that is up")


def predict(daemon, token=None):
    return Client(daemon.serve_url, token=token, timeout=30).request("POST", "/predict/echo", body="hi")


def make_token(cli, name, scopes="predict:echo"):
    return cli.json("token", "create", name, "--scope", scopes)["token"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up privileges")
def test_has_a_user_of_its_own(cli, daemon, client, serve):
    serve()
    pid = gateway_of(client)["pid"]
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
    assert len(uids) == 1 and uids.isdisjoint({"0"}) and gids == uids
    assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1" and not status["Groups"].strip()
    # It still learns what tokens are worth, from a socket that is its own, also where nobody but root may pass
    # through the data directory ...
    daemon.data.chmod(0o700)
    assert predict(daemon, make_token(cli, "app")).status == 200
    assert predict(daemon, "nonsense").status == 401
    owner = os.stat(daemon.data / "gateway" / "introspect.sock")
    assert {str(owner.st_uid)} == uids and owner.st_mode & 0o777 == 0o600
    daemon.data.chmod(0o711)
    # ... on which it may do nothing else, and no other socket lets it in.
    for name, path, expected in (
        ("gateway/introspect.sock", "/api/v1/oauth2/introspect", b"200"),
        ("gateway/introspect.sock", "/api/v1/tokens", b"403"),
        ("gateway/introspect.sock", "/api/v1/runs", b"403"),
        ("slipway.sock", "/api/v1/oauth2/introspect", b"000"),
    ):
        answer = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", daemon.data / name]
            + (["-d", "token=x"] if "introspect" in path else [])
            + [f"http://localhost{path}"],
            capture_output=True,
            user=int(next(iter(uids))),
            group=int(next(iter(uids))),
            extra_groups=[],
            cwd="/",
        )
        assert answer.stdout == expected, (name, path, answer)


def test_a_revoked_token_ends_at_once(cli, daemon, serve):
    serve()
    token = make_token(cli, "app")
    other = make_token(cli, "other")
    assert predict(daemon, token).status == predict(daemon, other).status == 200
    cli("token", "revoke", "app")
    assert predict(daemon, token).status == 401
    assert predict(daemon, other).status == 200


class Hammer:
    """Connects and asks without pause. What went wrong is counted by kind."""

    def __init__(self, daemon):
        host, port = daemon.serve_url.removeprefix("http://").split(":")
        self.address = host, int(port)
        self.refused, self.broken, self.answered, self.wrong = 0, 0, 0, []
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def ask(self):
        with socket.create_connection(self.address, timeout=30) as connection:
            connection.sendall(b"POST /predict/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer

    def run(self):
        while not self.stop.is_set():
            try:
                answer = self.ask()
            except ConnectionRefusedError:
                with self.lock:
                    self.refused += 1
                continue
            except OSError:
                answer = b""
            with self.lock:
                if not answer:
                    self.broken += 1
                elif answer.startswith(b"HTTP/1.1 200"):
                    self.answered += 1
                else:
                    self.wrong.append(answer[:300])

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def kill_gateway(client):
    pid = gateway_of(client)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for_gateway(client, other_than=pid)


def test_its_death_refuses_nobody(daemon, client, serve):
    serve("--public")
    with Hammer(daemon) as hammer:
        for _ in range(4):
            kill_gateway(client)
            time.sleep(0.2)
        # A daemon that attached to a living gateway has the socket, too.
        daemon.kill()
        daemon.start()
        wait_for_gateway(client)
        time.sleep(0.2)
        for _ in range(2):
            kill_gateway(client)
            time.sleep(0.2)
    assert hammer.refused == 0
    # What was in flight at a kill may be lost: at most one request for each thread and kill.
    assert hammer.broken <= 6 * len(hammer.threads)
    # Nobody is answered by a gateway that does not know its routes yet.
    assert not hammer.wrong, hammer.wrong[:3]
    assert hammer.answered > 100


def test_why_it_does_not_start_is_shown(make_daemon, environment, tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    daemon = make_daemon("--tls-cert", str(certificate), "--tls-key", str(key), listen="none")
    client = daemon.client()
    good = certificate.read_text()
    wait_for_gateway(client)
    assert problem_of(client) is None
    certificate.write_text("not a certificate\n")
    os.kill(gateway_of(client)["pid"], signal.SIGKILL)
    wait_until(lambda: "certificate" in (problem_of(client) or ""), what="the reason")
    assert "certificate" in daemon.log_text()
    shown = subprocess.run(
        [*daemon.command()[:1], "status", "--data", str(daemon.data)], capture_output=True, text=True, env=environment
    )
    assert "certificate" in shown.stdout, shown
    certificate.write_text(good)
    wait_for_gateway(client)
    assert problem_of(client) is None


def test_ends_when_its_directory_is_removed(cli, daemon, client, serve):
    """So do the replicas' monitors and workers: with the daemon killed and its data deleted, nobody could stop them."""
    serve()
    assert predict(daemon, make_token(cli, "t")).status == 200
    daemon.kill()
    assert len(processes_of(daemon.data)) >= 2  # the gateway and a monitor live on, for the next daemon
    shutil.rmtree(daemon.data)
    wait_until(lambda: not processes_of(daemon.data), 60, "the end of what served")
    with pytest.raises(OSError):
        predict(daemon)
