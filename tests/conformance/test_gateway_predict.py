"""Requests and answers of the gateway: text in, text out, and HTTP as it really comes."""

import contextlib
import socket

import pytest

from gateway import Gateway, serving

MODEL = '''
import time

calls = []


def init():
    pass


def predict(text):
    calls.append(text)
    if text == "raise":
        raise ValueError("a reason for it")
    if text == "number":
        return 7
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
    if text.startswith("length "):
        return "x" * int(text.split()[1])
    return text.upper()
'''


@pytest.fixture(scope="module")
def g():
    with serving(MODEL, "shout") as gateway:
        yield gateway


def raw(g, data, until=None, seconds=10):
    """Sends bytes and returns what comes back before the server closes, or until it contains `until`."""
    with socket.create_connection(("127.0.0.1", g.port), seconds) as s:
        s.sendall(data)
        got = b""
        while until is None or until not in got:
            chunk = s.recv(65536)
            if not chunk:
                break
            got += chunk
        return got


def head(path="/predict/shout", method="POST", *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Authorization: Bearer good", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("text", ["", "hello", "grüße ☀", "a\0b", "x" * 4095, "y" * 70_000, "z" * 3_000_000])
def test_text_in_text_out(g, text):
    reply = g.post("/predict/shout", text)
    assert (reply.status, reply.text) == (200, text.upper())
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_content_type_comes_back(g):
    reply = g.post("/predict/shout", "[1]", headers={"Content-Type": "application/json"})
    assert (reply.text, reply.headers["content-type"]) == ("[1]", "application/json")
    reply = g.post("/predict/shout", "a", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert reply.headers["content-type"].startswith("text/plain")


def test_an_exception_is_a_500_with_its_message(g):
    reply = g.post("/predict/shout", "raise")
    assert reply.status == 500
    assert reply.json == {"error": {"code": "internal", "message": "ValueError: a reason for it"}}
    assert g.post("/predict/shout", "still there").text == "STILL THERE"


def test_an_answer_that_is_no_text_is_a_500(g):
    reply = g.post("/predict/shout", "number")
    assert reply.status == 500 and "TypeError" in reply.json["error"]["message"]


def test_a_request_that_is_no_text_is_a_400(g):
    reply = g.post("/predict/shout", b"\xff\xfe")
    assert reply.status == 400 and reply.json["error"]["code"] == "invalid_argument"


@pytest.mark.parametrize("length", [65535, 65536, 65537, 10_000_000])
def test_long_answers_follow_each_other(g, length):
    connection = g.connection()
    for _ in range(3):
        reply = g.post("/predict/shout", f"length {length}", connection=connection)
        assert reply.status == 200 and reply.body == b"x" * length
    connection.close()


def test_an_answer_beyond_the_limit_is_a_500(g):
    reply = g.post("/predict/shout", f"length {64 * 2**20 + 5000}")
    assert reply.status == 500 and "too long" in reply.json["error"]["message"]
    assert g.post("/predict/shout", "a").text == "A"


def test_unknown_things(g):
    assert g.post("/predict/nobody", "x").status == 404
    assert g.get("/predict/shout").status == 405
    assert g.get("/nothing").status == 404
    assert g.post("/predict/shout?version=9", "x").status == 404
    assert g.post("/predict/shout?version=1", "x").text == "X"


def test_versions_are_addressed_by_number_or_by_code_and_weights():
    with Gateway() as g:
        g.package("a", "def init(): pass\ndef predict(text): return 'a'")
        g.package("b", "def init(): pass\ndef predict(text): return 'b'")
        routes = [g.route("7", [1], 100, code_weights="3.5"), g.route("8", [2], 0, code_weights="3.6")]
        g.configure(g.endpoint("m", routes))
        g.start_worker("a", 1)
        g.start_worker("b", 2)
        g.wait_ready("m", 2)
        assert {g.post("/predict/m", "").text for _ in range(20)} == {"a"}
        assert [g.post(f"/predict/m?version={v}", "").text for v in ("7", "3.5", "8", "3.6")] == ["a", "a", "b", "b"]


def test_traffic_follows_the_weights_and_sticks():
    with Gateway() as g:
        g.package("a", "def init(): pass\ndef predict(text): return 'a'")
        g.package("b", "def init(): pass\ndef predict(text): return 'b'")
        g.configure(g.endpoint("m", [g.route("1", [1], 90), g.route("2", [2], 10)], sticky="X-User"))
        g.start_worker("a", 1)
        g.start_worker("b", 2)
        g.wait_ready("m", 2)
        answers = [g.post("/predict/m", "").text for _ in range(200)]
        assert 15 <= answers.count("b") <= 25
        users = {u: {g.post("/predict/m", "", headers={"X-User": u}).text for _ in range(5)} for u in map(str, range(60))}
        assert all(len(seen) == 1 for seen in users.values())
        assert 1 <= sum(seen == {"b"} for seen in users.values()) <= 20


# -- HTTP --


def test_chunked_bodies_pieces_and_pipelining(g):
    chunked = head("/predict/shout", "POST", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"
    plain = head("/predict/shout", "POST", "Content-Length: 2") + b"fg"
    last = head("/predict/shout", "POST", "Content-Length: 1", "Connection: close") + b"h"
    got = raw(g, chunked + plain + last)
    assert [part.split(b"\r\n\r\n")[1] for part in got.split(b"HTTP/1.1 200")[1:]] == [b"ABCDE", b"FG", b"H"]

    with socket.create_connection(("127.0.0.1", g.port), 10) as s:
        for i in range(len(chunked)):
            s.sendall(chunked[i : i + 1])
        assert b"ABCDE" in s.recv(65536)


def test_expect_continue(g):
    with socket.create_connection(("127.0.0.1", g.port), 10) as s:
        s.sendall(head("/predict/shout", "POST", "Content-Length: 3", "Expect: 100-continue"))
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"abc")
        assert b"ABC" in s.recv(65536)


@pytest.mark.parametrize(
    "data, status",
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"a" * 40000, 431),
    ],
)
def test_what_is_not_http_is_refused_and_closed(g, data, status):
    got = raw(g, data)
    assert got.startswith(b"HTTP/1.1 %d " % status), got[:100]
    assert b"Connection: close" in got and b'{"error":' in got
    assert g.post("/predict/shout", "a").text == "A"


def test_malformed_chunks(g):
    for body in (b"g\r\n", b"1\r\nab\r\n", b"ffffffffffffffffff\r\n", b"3\nabc"):
        got = raw(g, head("/predict/shout", "POST", "Transfer-Encoding: chunked") + body + b"\r\n" * 5)
        assert got.startswith(b"HTTP/1.1 400 "), (body, got[:100])


def test_bodies_over_the_limit_are_refused():
    with serving(MODEL, "shout", body_limit=1000) as g:
        assert g.post("/predict/shout", "x" * 1000).status == 200
        connection = g.connection()
        for _ in range(2):  # the connection is kept: the body was read
            reply = g.post("/predict/shout", "x" * 1001, connection=connection)
            assert (reply.status, reply.json["error"]["code"]) == (413, "too_large")
        assert g.post("/predict/shout", "a", connection=connection).text == "A"
        connection.close()
        got = raw(g, head("/predict/shout", "POST", "Content-Length: 99999999999"), until=b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 413 ")
        got = raw(g, head("/predict/shout", "POST", "Transfer-Encoding: chunked") + b"800\r\n" + b"x" * 2048 + b"\r\n", until=b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 413 ")


def test_health_and_metrics(g):
    g.post("/predict/shout", "a")
    assert g.get("/health", token=None).json["status"] == "ready"
    assert g.get("/ping", token=None).status == 200
    assert g.get("/version", token=None).text.strip().count(".") == 2
    text = g.get("/metrics", token=None).text
    assert 'slipway_predict_requests_total{endpoint="shout",version="1",outcome="ok"}' in text
    assert 'slipway_predict_seconds_bucket{endpoint="shout",version="1",le="+Inf"}' in text
    assert 'slipway_auth_flow_total{flow="introspections"} 1' in text


def test_many_connections_at_once(g):
    sockets = [socket.create_connection(("127.0.0.1", g.port), 30) for _ in range(300)]
    for i, s in enumerate(sockets):
        s.sendall(head("/predict/shout", "POST", f"Content-Length: {len(str(i))}") + str(i).encode())
    good = 0
    for i, s in enumerate(sockets):
        data = b""
        while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < 1:
            data += s.recv(65536)
        good += data.startswith(b"HTTP/1.1 200")
        assert data.endswith(str(i).encode()) or data.startswith(b"HTTP/1.1 503"), data
        s.close()
    assert good >= 100  # one runs, 100 wait; more where the worker was quick


def test_tls_and_unix_socket(tmp_path):
    import http.client
    import ssl
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    path = str(tmp_path / "s.sock")
    with serving(MODEL, "shout", ("--certificate", str(certificate), "--key", str(key), "--unix", path)) as g:
        context = ssl.create_default_context(cafile=certificate)
        c = http.client.HTTPSConnection("localhost", g.port, context=context, timeout=20)
        headers = {"Authorization": "Bearer good"}
        for body in ("a", "b" * 100_000, "c" * 3_000_000):
            c.request("POST", "/predict/shout", body, headers)
            answer = c.getresponse()
            assert (answer.status, answer.read().decode()) == (200, body.upper())
        c.close()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(head("/predict/shout", "POST", "Content-Length: 1") + b"a")
            assert s.recv(65536).endswith(b"A")
        # Plain HTTP on the TLS port harms nobody.
        with socket.create_connection(("127.0.0.1", g.port), 10) as s:
            s.sendall(head())
            with contextlib.suppress(ConnectionResetError):
                s.recv(100)
        c = http.client.HTTPSConnection("localhost", g.port, context=context, timeout=20)
        c.request("POST", "/predict/shout", "d", headers)
        assert c.getresponse().read() == b"D"
