"""Who may call: tokens, their scopes, and an introspection server that is away."""

import hashlib
import time

import pytest

from gateway import ECHO, Gateway, serving


@pytest.fixture
def g():
    with serving() as gateway:
        yield gateway


def flows(g):
    return g.status()["auth"]


def test_no_bad_and_good_tokens(g):
    for options in ({"token": None}, {"token": "bad"}, {"token": None, "headers": {"Authorization": "Basic eDp5"}},
                    {"token": "x" * 5000}):
        reply = g.post("/predict/echo", "a", **options)
        assert (reply.status, reply.json["error"]["code"]) == (401, "unauthenticated"), options
        assert reply.headers["www-authenticate"] == "Bearer"
    assert g.post("/predict/echo", "a").status == 200
    assert g.post("/predict/echo", "a", token=None, headers={"authorization": "bearer good"}).status == 200


@pytest.mark.parametrize(
    "scope, status",
    [("predict:echo", 200), ("predict:*", 200), ("admin", 200), ("view predict:echo", 200), ("predict:echoes", 403),
     ("predict:ech", 403), ("view", 403), ("develop", 403), ("", 403), ("predict:", 403)],
)
def test_scopes(g, scope, status):
    g.introspection.tokens["t"] = {"scope": scope}
    assert g.post("/predict/echo", "a", token="t").status == status


def test_tokens_of_another_project():
    with serving(project="team") as g:
        g.introspection.tokens["ours"] = {"scope": "predict:*", "project": "team"}
        g.introspection.tokens["theirs"] = {"scope": "predict:*", "project": "other"}
        assert g.post("/predict/echo", "a", token="ours").status == 200
        assert g.post("/predict/echo", "a", token="theirs").status == 403


def test_public_endpoints_need_no_token():
    with serving(public=True) as g:
        assert g.post("/predict/echo", "a", token=None).text == "a"
        assert g.introspection.asked == []


def test_a_token_is_asked_about_once(g):
    for _ in range(5):
        assert g.post("/predict/echo", "a").status == 200
    for _ in range(5):
        assert g.post("/predict/echo", "a", token="bad").status == 401
    assert g.introspection.asked == ["good", "bad"]
    assert flows(g)["introspections"] == 2 and flows(g)["cache_hits"] == 8 and flows(g)["reached_model"] == 5


def test_a_token_is_forgotten_at_its_expiry(g):
    g.introspection.tokens["short"] = {"scope": "predict:*", "exp": time.time() + 1.0}
    assert g.post("/predict/echo", "a", token="short").status == 200
    time.sleep(1.1)
    assert g.post("/predict/echo", "a", token="short").status == 401
    assert g.introspection.asked == ["short", "short"]


def test_an_introspection_server_that_is_away(g):
    assert g.post("/predict/echo", "a").status == 200
    g.introspection.stop()
    assert g.post("/predict/echo", "a").status == 200
    reply = g.post("/predict/echo", "a", token="new")
    assert (reply.status, reply.json["error"]["code"]) == (503, "unavailable")
    assert reply.headers["retry-after"]
    g.introspection.tokens["new"] = {"scope": "predict:*"}
    g.introspection.start()
    assert g.post("/predict/echo", "a", token="new").status == 200


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"active":"yes"}', b"x" * 2_000_000])
def test_answers_that_make_no_sense(g, answer):
    g.introspection.raw = answer
    assert g.post("/predict/echo", "a").status == 503
    g.introspection.raw = None
    assert g.post("/predict/echo", "a").status == 200


def test_calls_that_wait_for_the_same_token_ask_once(g):
    import threading

    g.introspection.delay = 0.3
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(g.post("/predict/echo", "a").status)) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert statuses == [200] * 8 and g.introspection.asked == ["good"]


def test_revocation(g):
    g.introspection.tokens["other"] = {"scope": "predict:*"}
    for token in ("good", "other"):
        assert g.post("/predict/echo", "a", token=token).status == 200
    del g.introspection.tokens["good"]
    assert g.post("/predict/echo", "a").status == 200  # remembered
    reply = g.control.request("revoke", sha256=hashlib.sha256(b"good").hexdigest())
    assert reply["revoked"] == 1
    assert g.post("/predict/echo", "a").status == 401
    assert g.post("/predict/echo", "a", token="other").status == 200
    assert g.introspection.asked == ["good", "other", "good"]
    assert g.control.request("flush")["revoked"] == 2


def test_rates_are_kept_per_token():
    with serving(rate={"per_second": 0.5, "burst": 3}) as g:
        g.introspection.tokens["other"] = {"scope": "predict:*"}
        statuses = [g.post("/predict/echo", "a").status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        reply = g.post("/predict/echo", "a")
        assert reply.json["error"]["code"] == "rate_limited" and reply.headers["retry-after"]
        assert g.post("/predict/echo", "a", token="other").status == 200
        time.sleep(2.5)
        assert g.post("/predict/echo", "a").status == 200


def test_rates_wait_as_long_as_they_say():
    with serving(rate={"per_second": 0.5, "burst": 1}) as g:
        assert g.post("/predict/echo", "a").status == 200
        reply = g.post("/predict/echo", "a")
        assert (reply.status, reply.headers["retry-after"], reply.headers["slipway-limit"]) == (429, "2", "rate")
        assert "0.5 requests a second" in reply.json["error"]["message"]
        time.sleep(int(reply.headers["retry-after"]))
        assert g.post("/predict/echo", "a").status == 200


def test_rates_are_of_a_token_and_an_endpoint_and_outlive_what_is_remembered():
    with Gateway("--token-ttl", "200ms") as g:
        g.package("echo", ECHO)
        g.configure(g.endpoint("echo", rate={"per_second": 0.01, "burst": 2}),
                    g.endpoint("other", [g.route("1", [2])], rate={"per_second": 0.01, "burst": 1}))
        g.start_worker("echo", 1)
        g.start_worker("echo", 2)
        g.wait_ready("echo")
        g.wait_ready("other")
        assert [g.post("/predict/echo", "a").status for _ in range(3)] == [200, 200, 429]
        assert [g.post("/predict/other", "a").status for _ in range(2)] == [200, 429]
        time.sleep(0.3)
        assert g.post("/predict/echo", "a").status == 429
        assert g.introspection.asked == ["good", "good"]


def quota(requests, window_ms, **fields):
    return {"scope": "predict:*", "quota": {"requests": requests, "window_ms": window_ms}, **fields}


def test_quotas(g):
    day = 86400_000
    g.introspection.tokens["two"] = quota(2, day)
    assert [g.post("/predict/echo", "a", token="two").status for _ in range(3)] == [200, 200, 429]
    reply = g.post("/predict/echo", "a", token="two")
    left = day / 1000 - time.time() % (day / 1000)
    assert reply.headers["slipway-limit"] == "quota" and abs(int(reply.headers["retry-after"]) - left) <= 2
    assert reply.json["error"]["code"] == "rate_limited" and "2 requests" in reply.json["error"]["message"]
    assert "T00:00:00" in reply.json["error"]["message"]
    # What the gateway answers itself is free, each protocol has its own form, and others are not concerned.
    assert g.get("/v2/models/echo", token="two").status == 200
    reply = g.post("/v1/models/echo:predict", '{"instances":["a"]}', token="two")
    assert reply.status == 429 and "quota" in reply.json["error"]
    assert g.post("/predict/echo", "a").status == 200
    assert 'reason="quota_exceeded"} 3' in g.get("/metrics", token=None).text


def test_a_quota_ends_with_its_window(g):
    g.introspection.tokens["short"] = quota(1, 2000)
    while time.time() % 2 > 1:  # not across the end of a window
        time.sleep(0.1)
    assert [g.post("/predict/echo", "a", token="short").status for _ in range(2)] == [200, 429]
    reply = g.post("/predict/echo", "a", token="short")
    time.sleep(int(reply.headers["retry-after"]))
    assert g.post("/predict/echo", "a", token="short").status == 200


def test_tokens_of_one_client_count_together_also_when_revoked(g):
    for token in ("a", "b"):
        g.introspection.tokens[token] = quota(3, 86400_000, client_id="app")
    g.introspection.tokens["c"] = quota(3, 86400_000, client_id="app", sub="somebody else")
    assert [g.post("/predict/echo", "x", token=t).status for t in ("a", "b", "a", "b")] == [200, 200, 200, 429]
    g.control.request("flush")
    assert g.post("/predict/echo", "x", token="a").status == 429
    assert g.post("/predict/echo", "x", token="c").status == 200


def test_a_restart_forgets_the_counts(g):
    g.introspection.tokens["one"] = quota(1, 86400_000)
    assert [g.post("/predict/echo", "a", token="one").status for _ in range(2)] == [200, 429]
    port = g.port
    g.stop()
    g.start(port)
    g.configure(g.endpoint("echo"))
    g.wait_ready("echo")
    assert g.post("/predict/echo", "a", token="one").status == 200


@pytest.mark.parametrize("value", [5, [], {}, {"requests": 1}, {"requests": -1, "window_ms": 1000},
                                   {"requests": 1, "window_ms": 0}, {"requests": "1", "window_ms": "1"}])
def test_quotas_that_make_no_sense_are_none(g, value):
    g.introspection.tokens["odd"] = {"scope": "predict:*", "quota": value}
    assert [g.post("/predict/echo", "a", token="odd").status for _ in range(3)] == [200] * 3
