"""The control port against bad input and bad luck: everything before a handler runs, and the listeners."""

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import BINARY, UNDER, Client, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect, unix_connect


@pytest.fixture
def daemon(make_daemon):
    """Without a gateway: it is the control port that is tested here."""
    return make_daemon(serve="none")


@contextlib.contextmanager
def raw(daemon, timeout=30):
    """A plain socket to the TCP port."""
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as s:
        yield s


def read_all(s):
    data = b""
    while piece := s.recv(65536):
        data += piece
    return data


def ask(daemon, text):
    """Sends bytes, returns (status, headers, body) of the first answer."""
    with raw(daemon) as s:
        s.sendall(text)
        answer = read_all(s)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def error_of(body):
    return json.loads(body)["error"]["code"]


@pytest.fixture
def token(client):
    """Makes tokens: token("view") is its secret."""

    def make(scopes, **fields):
        return client.post("/api/v1/tokens", {"scopes": scopes, **fields})["token"]

    return make


# -- who asks --


def test_tcp_needs_a_token(daemon):
    reply = daemon.client(url=daemon.url).request("GET", "/api/v1/status")
    assert (reply.status, reply.error) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert "token" in reply.json["error"]["message"]


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer ", "Basic eDp5", "nonsense", "Bearer " + "x" * 5000])
def test_wrong_tokens(daemon, header):
    reply = daemon.client(url=daemon.url).request("GET", "/api/v1/status", headers={"Authorization": header})
    assert (reply.status, reply.error) == (401, "unauthenticated")


def test_health_needs_no_token(daemon):
    tcp = daemon.client(url=daemon.url)
    assert tcp.get("/api/v1/health")["status"] == "ok"
    assert tcp.get("/api/v1/version")["api"] == "v1"


def test_scopes(daemon, token):
    viewer = daemon.client(token("view"), daemon.url)
    assert viewer.get("/api/v1/status")
    reply = viewer.request("POST", "/api/v1/tokens", {"scopes": "view"})
    assert (reply.status, reply.error) == (403, "forbidden")
    assert "admin" in reply.json["error"]["message"]
    assert daemon.client(token("admin"), daemon.url).get("/api/v1/tokens")["items"]


def test_revocation_counts_at_once(daemon, client):
    made = client.post("/api/v1/tokens", {"scopes": "view", "name": "short"})
    viewer = daemon.client(made["token"], daemon.url)
    for _ in range(5):
        assert viewer.request("GET", "/api/v1/status").status == 200
    client.delete("/api/v1/tokens/short")
    assert viewer.request("GET", "/api/v1/status").status == 401


def test_token_that_expires(daemon, token):
    viewer = daemon.client(token("view", ttl_ms=1500), daemon.url)
    assert viewer.request("GET", "/api/v1/status").status == 200
    wait_until(lambda: viewer.request("GET", "/api/v1/status").status == 401, what="the end of the token")


def test_project_of_a_token(daemon, client, token):
    client.post("/api/v1/projects", {"name": "team-a"})
    viewer = daemon.client(token("view", project="team-a"), daemon.url)
    assert viewer.get("/api/v1/runs")["items"] == []
    reply = viewer.request("GET", "/api/v1/runs", query={"project": "default"})
    assert (reply.status, reply.error) == (403, "forbidden")


# -- paths, methods, parameters --


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/nothing", "/api/v1/health/", "//api/v1/health", "/api/v1/tokens/a/b", "/favicon.ico"]
)
def test_unknown_paths(client, path):
    reply = client.request("GET", path)
    assert (reply.status, reply.error) == (404, "not_found")


@pytest.mark.parametrize("path", ["/api/v1/%zz", "/api/v1/tokens/%00", "/api/v1/tokens/%ff", "/api/v1/../v1/health", "/api/v1/tokens/%2e%2e"])
def test_paths_that_cannot_be_decoded(client, path):
    reply = client.request("GET", path)
    assert (reply.status, reply.error) == (400, "invalid_argument")


def test_wrong_method(client):
    reply = client.request("PUT", "/api/v1/tokens")
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, HEAD, POST"
    assert client.request("BREW", "/api/v1/health").status == 405


def test_head(client):
    reply = client.request("HEAD", "/api/v1/version")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "query, words",
    [
        ({"nonsense": 1}, ["nonsense", "limit", "after"]),
        ({"limit": "many"}, ["limit", "many"]),
        ([("limit", 1), ("limit", 2)], ["limit", "twice"]),
        ({f"p{i}": i for i in range(200)}, ["100"]),
    ],
)
def test_wrong_query(client, query, words):
    reply = client.request("GET", "/api/v1/tokens", query=query)
    assert (reply.status, reply.error) == (400, "invalid_argument")
    for word in words:
        assert word in reply.json["error"]["message"]


# -- bodies --


@pytest.mark.parametrize(
    "body, words",
    [
        ({"scopes": "view", "colour": "red"}, ["unknown field", "colour"]),
        ({"scopes": 1}, ["scopes", "string"]),
        ({}, ["scopes", "missing"]),
        ([], ["object"]),
        ("text", ["object"]),
        (None, ["scopes"]),
        ({"scopes": "view", "ttl_ms": "1h"}, ["ttl_ms", "integer"]),
        ({"scopes": "view", "ttl_ms": -1}, ["ttl_ms", "0"]),
        ({"scopes": "x" * 5000}, ["scopes", "4096"]),
    ],
)
def test_fields_are_named(client, body, words):
    reply = client.request("POST", "/api/v1/tokens", body)
    assert (reply.status, reply.error) == (400, "invalid_argument")
    for word in words:
        assert word in reply.json["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"scopes":"view"', b'{"scopes":"view"} x', b'{"scopes":"a","scopes":"b"}', b'{"scopes":NaN}', b"\xff\xfe{}",
     b'{"scopes":"\xff"}', b"[" * 100000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"\0"],
)
def test_bodies_that_are_no_json(client, body):
    reply = client.request("POST", "/api/v1/tokens", body=body)
    assert (reply.status, reply.error) == (400, "invalid_argument")


def test_body_where_none_belongs(client):
    assert client.request("GET", "/api/v1/version", body=b"{}").status == 400


def test_declared_body_over_the_limit(daemon):
    """Refused by its header alone: not a byte of the body is sent."""
    with raw(daemon) as s:
        s.sendall(b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 99999999999\r\n\r\n")
        answer = s.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401")  # who has no token learns nothing about limits


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit(client, chunked):
    """Twice the limit, all of it sent: the answer arrives although the body is not read to its end."""
    piece, count = b"x" * 65536, 200

    connection = client.connection()
    connection.putrequest("POST", "/api/v1/tokens")
    connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(piece) * count))))
    connection.endheaders()
    try:
        for _ in range(count):
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    answer = connection.getresponse()
    assert answer.status == 413
    assert error_of(answer.read()) == "too_large"
    connection.close()
    assert client.get("/api/v1/health")


def test_expect_continue_is_refused_before_the_body(daemon, token):
    with raw(daemon) as s:
        s.sendall(
            b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token("admin").encode() +
            b"\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = read_all(s)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer


# -- headers and bytes --


def test_long_header(daemon):
    status, _, body = ask(daemon, b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"x" * 40000 + b"\r\n\r\n")
    assert (status, error_of(body)) == (431, "too_large")


@pytest.mark.parametrize("size", [200_000, 5_000_000])
def test_endless_header(daemon, size):
    with raw(daemon) as s:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * size)
            answer = read_all(s)
            assert answer.startswith(b"HTTP/1.1 4")
    assert daemon.client().get("/api/v1/health")


def test_many_headers(daemon):
    lines = b"".join(b"X-%d: y\r\n" % i for i in range(20000))
    with raw(daemon) as s:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n")
            assert read_all(s).startswith(b"HTTP/1.1 4")
    assert daemon.client().get("/api/v1/health")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n" * 1000,
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /api/v1/health HTTP/9.9\r\n\r\n",
        b"GET /api/v1/health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /api/v1/health HTTP/1.1\r\n\r\n",  # no Host
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        os.urandom(4096),
    ],
    ids=range(13),
)
def test_bytes_that_are_no_request(daemon, data):
    with raw(daemon, timeout=10) as s:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            answer = read_all(s)
            assert answer == b"" or answer.startswith(b"HTTP/1."), answer[:200]
            assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 500")), answer[:200]
    assert daemon.client().get("/api/v1/health")


def test_requests_behind_each_other(daemon):
    one = b"GET /api/v1/version HTTP/1.1\r\nHost: x\r\n\r\n"
    with raw(daemon) as s:
        s.sendall(one * 9 + one.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_all(s).count(b"HTTP/1.1 200 OK") == 10


def test_half_closed(daemon):
    with raw(daemon) as s:
        s.sendall(b"GET /api/v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        assert read_all(s).startswith(b"HTTP/1.1 200")


def test_client_that_leaves(daemon, client):
    for _ in range(50):
        with raw(daemon) as s:
            s.sendall(b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    wait_until(lambda: b"\nslipway_http_connections 1\n" in client.request("GET", "/metrics").body, what="connections to end")


def test_more_connections_than_allowed(daemon):
    sockets = []
    try:
        for _ in range(1100):
            s = socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), timeout=30)
            sockets.append(s)
        # The socket of the local admin is a listener of its own: it still answers.
        assert daemon.client().get("/api/v1/health")["status"] == "ok"
    finally:
        for s in sockets:
            s.close()
    wait_until(lambda: daemon.client(url=daemon.url).get("/api/v1/health"), what="an answer after the flood")


# -- WebSockets --


def follow(daemon, after=0, **options):
    return unix_connect(str(daemon.data / "slipway.sock"), uri=f"ws://localhost/api/v1/events/follow?after={after}", **options)


def test_events_are_followed_and_resumed(daemon, token):
    for i in range(5):
        token("view", name=f"t{i}")
    seen = []
    with follow(daemon) as ws:
        while len(seen) < 3:
            seen.append(json.loads(ws.recv(timeout=20)))
    with follow(daemon, after=seen[-1]["sequence"]) as ws:
        while len(seen) < 5:
            seen.append(json.loads(ws.recv(timeout=20)))
        token("view", name="later")
        seen.append(json.loads(ws.recv(timeout=20)))
    assert [event["sequence"] for event in seen] == list(range(seen[0]["sequence"], seen[0]["sequence"] + 6))
    assert seen[-1]["type"] == "slipway.token.created"


def test_websocket_needs_a_token(daemon, token):
    url = daemon.url.replace("http:", "ws:") + "/api/v1/events/follow?after=0"
    with pytest.raises(InvalidStatus) as refused:
        connect(url)
    assert refused.value.response.status_code == 401
    assert error_of(refused.value.response.body) == "unauthenticated"
    with connect(url, additional_headers={"Authorization": f"Bearer {token('view')}"}) as ws:
        assert json.loads(ws.recv(timeout=20))["specversion"] == "1.0"


def test_websocket_route_without_handshake(client):
    reply = client.request("GET", "/api/v1/events/follow")
    assert (reply.status, reply.error) == (400, "invalid_argument")


def test_websocket_is_told_that_the_server_stops(daemon, token):
    token("view")
    with follow(daemon) as ws:
        ws.recv(timeout=20)
        started = time.monotonic()
        assert daemon.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
    assert closed.value.rcvd.code == 1001
    assert time.monotonic() - started < 20


def test_websocket_message_over_the_limit(daemon, client):
    with follow(daemon) as ws:
        with contextlib.suppress(ConnectionClosed, BrokenPipeError):
            ws.send("x" * (3 << 20))
        with pytest.raises(ConnectionClosed):
            while True:
                ws.recv(timeout=20)
    assert client.get("/api/v1/health")


@pytest.mark.parametrize("data", [b"\xff" * 64, b"\x81\x05hello", b"\xf1\x80aaaa", b"\x88\x81aaaaa", b"\x81\x82aaaa\x9e\x9e"])
def test_bytes_that_are_no_frames(daemon, client, data):
    """Reserved bits and opcodes, no mask, a close of one byte, text that is not UTF-8."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(str(daemon.data / "slipway.sock"))
        s.sendall(
            b"GET /api/v1/events/follow HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + data
        )
        with contextlib.suppress(ConnectionResetError):
            assert read_all(s).startswith(b"HTTP/1.1 101")
    assert client.get("/api/v1/health")


def test_followers_that_vanish(daemon, client, token):
    """Sockets that close without a word, while events come."""
    for i in range(30):
        with contextlib.ExitStack() as stack:
            ws = stack.enter_context(follow(daemon))
            token("view", name=f"v{i}")
            ws.socket.close()
    wait_until(lambda: b"\nslipway_http_websockets 0\n" in client.request("GET", "/metrics").body, what="followers to be gone")


# -- TLS and listeners --


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key) of localhost, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    return certificate, key


@pytest.fixture
def tls_daemon(make_daemon, certificate):
    return make_daemon("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]), serve="none")


def https_get(daemon, certificate, path, token=None):
    context = ssl.create_default_context(cafile=str(certificate[0]))
    host, _, port = daemon.url.removeprefix("https://").rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body)


def test_tls(tls_daemon, certificate):
    assert tls_daemon.url.startswith("https://")
    assert https_get(tls_daemon, certificate, "/api/v1/health")[1]["status"] == "ok"
    assert https_get(tls_daemon, certificate, "/api/v1/status")[0] == 401
    secret = tls_daemon.client().post("/api/v1/tokens", {"scopes": "view"})["token"]
    assert https_get(tls_daemon, certificate, "/api/v1/status", secret)[0] == 200


def test_websocket_over_tls(tls_daemon, certificate):
    admin = tls_daemon.client()
    secret = admin.post("/api/v1/tokens", {"scopes": "view"})["token"]
    url = tls_daemon.url.replace("https:", "wss:") + "/api/v1/events/follow?after=0"
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with connect(url, ssl=context, additional_headers={"Authorization": f"Bearer {secret}"}) as ws:
        first = json.loads(ws.recv(timeout=20))["sequence"]
        for i in range(200):
            admin.post("/api/v1/tokens", {"scopes": "view", "name": f"t{i}"})
        for i in range(200):
            assert json.loads(ws.recv(timeout=20))["sequence"] == first + 1 + i
        assert tls_daemon.stop() == 0


def test_plain_words_to_a_tls_port(tls_daemon):
    host, _, port = tls_daemon.url.removeprefix("https://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"200" not in read_all(s)
    assert tls_daemon.client().get("/api/v1/health")


def test_old_tls_is_refused(tls_daemon, certificate):
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, _, port = tls_daemon.url.removeprefix("https://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as s:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(s, server_hostname="localhost")


def serve(program, tmp_path, *options):
    return program("serve", "--data", tmp_path / "d", *options, check=False, timeout=60)


@pytest.mark.parametrize("option", ["--listen", "--serve"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "*:0", "[::]:0", "192.0.2.1:0"])
def test_open_port_without_tls_is_refused(program, tmp_path, option, address):
    result = serve(program, tmp_path, option, address)
    assert result.returncode != 0
    assert "--tls-cert" in result.stderr and "--insecure" in result.stderr
    assert not (tmp_path / "d").exists()


def test_open_port_with_tls_or_force(make_daemon, certificate):
    daemon = make_daemon("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]), listen="0.0.0.0:0", serve="none")
    assert daemon.url.startswith("https://0.0.0.0:")
    daemon = make_daemon("--insecure", listen="0.0.0.0:0", serve="none")
    assert daemon.url.startswith("http://0.0.0.0:")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--listen", "nonsense"], ["nonsense", "HOST:PORT"]),
        (["--listen", "127.0.0.1:99999"], ["127.0.0.1:99999"]),
        (["--listen", "example.org:80"], ["example.org"]),
        (["--tls-cert", "/nowhere.pem"], ["--tls-key"]),
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], ["certificate", "/nowhere.pem"]),
        (["--hot-size", "much"], ["--hot-size", "much"]),
    ],
)
def test_wrong_options(program, tmp_path, options, words):
    result = serve(program, tmp_path, "--listen", "127.0.0.1:0", *options)
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr


def test_key_that_is_none(program, tmp_path, certificate):
    (tmp_path / "key.pem").write_text("nonsense")
    result = serve(program, tmp_path, "--listen", "127.0.0.1:0", "--serve", "none", "--tls-cert", certificate[0], "--tls-key", tmp_path / "key.pem")
    assert result.returncode != 0
    assert "cannot serve on https://127.0.0.1" in result.stderr


def test_port_that_is_taken(program, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = f"127.0.0.1:{s.getsockname()[1]}"
        result = serve(program, tmp_path, "--listen", address)
    assert result.returncode != 0
    assert f"another program listens on {address}" in result.stderr


def test_unix_socket_alone(make_daemon):
    daemon = make_daemon(listen="none", serve="none")
    assert daemon.url is None
    assert daemon.client().get("/api/v1/health")["status"] == "ok"
    assert os.stat(daemon.data / "slipway.sock").st_mode & 0o777 == 0o600
    assert daemon.stop() == 0
    assert not (daemon.data / "slipway.sock").exists()


def test_several_listeners(make_daemon):
    daemon = make_daemon("--listen", "127.0.0.1:0", "--listen", "[::1]:0", listen="127.0.0.1:0", serve="none")
    urls = [url for url in daemon.client().get("/api/v1/status")["urls"] if url.startswith("http")]
    assert len(urls) == 3 and len(set(urls)) == 3
    for url in urls:
        assert Client(url).get("/api/v1/health")["status"] == "ok"


def test_supervisor_is_notified(environment, tmp_path, make_daemon):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.settimeout(60)
        environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        daemon = make_daemon(serve="none")
        assert s.recv(100) == b"READY=1"
        assert daemon.stop() == 0
        assert s.recv(100) == b"STOPPING=1"


def test_ready_line(make_daemon):
    daemon = make_daemon(serve="none")
    lines = daemon.log_text().splitlines()
    assert "ready" in lines
    assert f"listening  {daemon.url}" in lines


def test_stop_while_requests_run(daemon):
    """Nobody who has been accepted gets half an answer."""
    stop, broken, answered = threading.Event(), [], []

    def hammer():
        while not stop.is_set():
            try:
                answered.append(daemon.client().request("GET", "/api/v1/openapi.json").status)
            except (ConnectionError, FileNotFoundError, http.client.RemoteDisconnected):
                if stop.is_set():
                    return
                time.sleep(0.01)
            except http.client.HTTPException as problem:
                broken.append(problem)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert daemon.stop() == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert answered and set(answered) == {200}
    assert not broken


# -- numbers --


def test_metrics(client):
    client.get("/api/v1/version")
    reply = client.request("GET", "/metrics")
    text = reply.body.decode()
    names = set()
    for line in text.splitlines():
        if line.startswith("#"):
            assert line.split()[1] in ("HELP", "TYPE")
        else:
            name, value = line.rsplit(" ", 1)
            float(value)
            assert name not in names, f"{name} comes twice"
            names.add(name)
    assert 'slipway_http_requests_total{method="GET",route="/api/v1/version",status="2xx"} 1' in text
    assert 'slipway_runs{state="queued"} 0' in text
    for name in ("process_resident_memory_bytes", "slipway_vault_bytes", "slipway_events_total"):
        assert f"\n{name} " in text
