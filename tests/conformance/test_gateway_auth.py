"""Who may call: tokens, their scopes, and an introspection server that is away."""

import hashlib
import time

import pytest

from gateway import serving


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
