"""slipway bench against a server of the test's own."""

import http.server
import json
import os
import subprocess
import threading

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SLIPWAY = os.environ.get("SLIPWAY_BINARY") or os.path.join(ROOT, "build", "src", "slipway")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one segment

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization"), body))
        good = self.headers.get("Authorization") in (None, "Bearer good", "Bearer other")
        data = b"echo:" + body if good else b'{"error":"no"}'
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/predict/echo"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def bench(*arguments, check=True):
    result = subprocess.run([SLIPWAY, "bench", *arguments], capture_output=True, text=True, timeout=120)
    if check:
        assert result.returncode == 0, result.stderr
    return result


def test_counts_what_the_server_saw(server):
    result = json.loads(bench(server.url, "-n", "200", "-c", "4", "--body", "hello", "--json").stdout)["result"]
    assert result["requests"] == result["answered"] == result["accepted"] == 200
    assert result["statuses"] == {"200": 200}
    assert len(server.seen) == 200
    assert set(server.seen) == {("POST", "/predict/echo", None, b"hello")}
    assert result["latency_ms"]["p50"] <= result["latency_ms"]["p99"] <= result["latency_ms"]["max"]
    assert result["late_ms"] is None  # a closed loop has no time to be late for


def test_tells_how_late_it_was_itself(server):
    result = json.loads(bench(server.url, "-n", "200", "-r", "1000", "-c", "8", "--json").stdout)["result"]
    assert 0 <= result["late_ms"]["p50"] <= result["late_ms"]["max"] <= result["latency_ms"]["max"]


def test_tokens_in_turn_and_bad_ones_by_chance(server):
    result = json.loads(bench(server.url, "-n", "400", "-c", "2", "--bearer", "good", "--bearer", "other", "--bad-token",
                              "0.25", "--json").stdout)["result"]
    seen = [row[2] for row in server.seen]
    bad = len(seen) - seen.count("Bearer good") - seen.count("Bearer other")
    assert abs(seen.count("Bearer good") - seen.count("Bearer other")) <= 1
    assert 60 <= bad <= 140  # 100 expected, deviation 8.7
    assert result["statuses"] == {"200": 400 - bad, "401": bad}
    assert result["accepted"] == 400 - bad


def test_open_loop_keeps_its_rate(server):
    result = json.loads(bench(server.url, "--rate", "200", "-d", "2s", "-c", "8", "--arrivals", "constant", "--json").stdout)
    assert 395 <= result["result"]["requests"] <= 402
    assert result["settings"]["arrivals"] == "open loop, constant gaps"


@pytest.mark.slow
def test_goes_on_until_accurate(server):
    result = json.loads(bench(server.url, "--rate", "300", "-c", "8", "--accuracy", "0.2", "-d", "60s", "--json").stdout)["result"]
    intensity = result["intensity"]
    assert intensity["n"] >= max(100, intensity["needed"])
    assert intensity["accuracy"] <= 0.2 * intensity["mean"]


def test_report_is_a_page_with_plots(server, tmp_path):
    page = tmp_path / "report.html"
    bench(server.url, "-n", "100", "--report", str(page))
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert text.count("<svg") >= 1 and "Latency by share of requests" in text
    assert server.url in text


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["ftp://x"], 2, "is not a URL"),
        (["http://127.0.0.1:1/"], 6, "no connection to 127.0.0.1"),
        (["http://127.0.0.1:1/", "--rate", "0"], 2, "rate"),
        (["http://127.0.0.1:1/", "--arrivals", "sometimes"], 2, "poisson, constant or closed"),
        (["http://127.0.0.1:1/", "--bad-token", "2"], 2, "bad-token"),
        ([], 2, "URL"),
    ],
)
def test_bad_arguments(arguments, status, message):
    result = bench(*arguments, check=False)
    assert result.returncode == status, result.stderr
    assert message in result.stderr


ECHO = "def init():\n    pass\n\n\ndef predict(text):\n    return text\n"


def test_paper_measures_what_theory_predicts(daemon, tmp_path):
    (tmp_path / "echo").mkdir()
    (tmp_path / "echo" / "model.py").write_text(ECHO)
    page = tmp_path / "paper.html"

    def slipway(*arguments, status=0):
        result = subprocess.run([SLIPWAY, *arguments], capture_output=True, text=True, timeout=240,
                                env=dict(os.environ, SLIPWAY_DATA=str(daemon.data)))
        assert result.returncode in (status, 0), result.stderr
        return result.stdout

    slipway("model", "push", "test/echo", str(tmp_path / "echo"))
    slipway("endpoint", "create", "echo", "test/echo@1")
    out = slipway("bench", "paper", "echo", "--rate", "200", "--clients", "10", "--time", "2s", "--bad-tokens", "0,0.5,1",
                  "--ttls", "1", "--confidence", "0.999", "--seed", "7", "--report", str(page), "--json", status=1)
    assert json.loads(out)["settings"]["seed"] == 7
    bad, ttl = json.loads(out)["figures"]
    assert [p["x"] for p in bad["points"]] == [0, 0.5, 1] and [p["x"] for p in ttl["points"]] == [1]
    assert [round(p["predicted"]) for p in bad["points"]] == [200, 100, 0]
    assert bad["points"][2]["measured"] == 0  # no bad token reaches the model, ever
    assert bad["points"][0]["measured"] > bad["points"][1]["measured"] > 0
    assert ttl["points"][0]["measured"] > 0
    for point in bad["points"] + ttl["points"]:  # the preliminary series, and what it showed to be needed
        assert 100 <= point["n"] <= max(point["needed"], 500), point
    assert page.read_text().count("<svg") == 2
    tokens = json.loads(slipway("token", "ls", "--json"))
    assert not [t for t in tokens if t["name"].startswith("bench")]  # the client of the measurement is revoked
