"""Answers of deterministic models that are given again."""

import json
import time

from gateway import SECONDS, Gateway, serving
from test_gateway_failures import in_background

# Every call has a number, so that an answer that comes again shows.
MODEL = '''
calls = 0


def init():
    pass


def predict(text):
    global calls
    calls += 1
    if text == "raise":
        raise ValueError("no")
    if text.startswith("length "):
        return f"{calls}:" + "x" * int(text.split()[1])
    return f"{calls}:{text}"
'''
TENSORS = MODEL + '''

def predict_tensors(inputs):
    global calls
    calls += 1
    return {"x": inputs["x"] * 2, "calls": inputs["x"][:1] * 0 + calls}
'''


def caching(text=MODEL, cache=1 << 20, deterministic=True, **fields):
    return serving(text, "m", cache=cache, routes=[route(deterministic=deterministic)], **fields)


def route(version="1", number=1, **fields):
    return {"version": version, "replicas": [{"id": f"{number:032x}", "key": f"key-{number}"}], **fields}


def is_hit(reply):
    assert reply.headers.get("slipway-cache") in (None, "hit")
    return "slipway-cache" in reply.headers


def test_an_equal_request_gets_the_answer_again():
    with caching() as g:
        first, second = g.post("/predict/m", "a"), g.post("/predict/m", "a", headers={"Content-Type": "text/x-mine"})
        assert (first.status, first.text, is_hit(first)) == (200, "1:a", False)
        assert (second.status, second.text, is_hit(second)) == (200, "1:a", True)
        assert second.headers["content-type"] == "text/x-mine"  # of this request, not of the first
        assert g.post("/predict/m", "b").text == "2:b"
        assert g.post("/predict/m", "").text == "3:" == g.post("/predict/m", "").text
        status = g.status("m")
        assert status["routes"][0]["cache"] == {"hits": 2, "misses": 3}
        assert status["routes"][0]["requests"] == 5 and status["routes"][0]["outcomes"]["ok"] == 5
        assert status["cache"]["answers"] == 3 and 0 < status["cache"]["size"] <= status["cache"]["max"] == 1 << 20
        metrics = g.get("/metrics", token=None).text
        assert 'slipway_answer_cache_total{endpoint="m",version="1",result="hit"} 2' in metrics
        assert 'slipway_answer_cache_total{endpoint="m",version="1",result="miss"} 3' in metrics
        assert f'slipway_answer_cache_bytes{{endpoint="m"}} {status["cache"]["size"]}' in metrics


def test_a_hit_needs_a_good_token_and_no_replica():
    with caching() as g:
        assert g.post("/predict/m", "a").text == "1:a"
        assert g.post("/predict/m", "a", token="bad").status == 401
        assert g.post("/predict/m", "a", token=None).status == 401
        reached = g.status()["auth"]["reached_model"]
        g.workers[1].kill()
        g.control.wait_event("gone")
        assert is_hit(g.post("/predict/m", "a"))
        assert g.status()["auth"]["reached_model"] == reached


def test_models_that_do_not_say_so_and_endpoints_without():
    for fields in ({"deterministic": False}, {"cache": 0}):
        with caching(**fields) as g:
            assert [g.post("/predict/m", "a").text for _ in range(2)] == ["1:a", "2:a"]
            assert g.status("m")["routes"][0]["cache"] == {"hits": 0, "misses": 0}


def test_errors_are_not_remembered():
    with caching() as g:
        for _ in range(2):
            reply = g.post("/predict/m", "raise")
            assert reply.status == 500 and not is_hit(reply)
            assert g.post("/predict/m", b"\xff").status == 400
        assert g.status("m")["cache"]["answers"] == 0


def test_what_was_unused_for_longest_goes_first():
    with caching(cache=10_000) as g:
        for i in range(3):
            assert not is_hit(g.post("/predict/m", f"length 2990 {i}"))
        assert is_hit(g.post("/predict/m", "length 2990 0"))
        assert not is_hit(g.post("/predict/m", "length 2990 3"))
        assert [is_hit(g.post("/predict/m", f"length 2990 {i}")) for i in (0, 3, 2)] == [True] * 3
        assert not is_hit(g.post("/predict/m", "length 2990 1"))
        assert g.status("m")["cache"]["size"] <= 10_000
        for _ in range(2):
            assert not is_hit(g.post("/predict/m", "length 20000"))  # more than all of it


def test_long_requests_and_answers_are_not_remembered():
    with caching(cache=1 << 28) as g:
        for body in ("a" * ((1 << 20) + 1), f"length {(1 << 20) + 1}"):
            assert [is_hit(g.post("/predict/m", body)) for _ in range(2)] == [False] * 2
        long = "a" * (1 << 19)
        first, second = g.post("/predict/m", long), g.post("/predict/m", long)
        assert is_hit(second) and second.body == first.body


def test_versions_do_not_share_answers_and_take_them_along():
    with Gateway() as g:
        g.package("m", MODEL)
        one, two = route("1", 1, deterministic=True), route("2", 2, deterministic=True, weight=0)
        g.configure(g.endpoint("m", [one, two], cache=1 << 20))
        g.start_worker("m", 1)
        g.start_worker("m", 2)
        g.wait_ready("m", 2)
        g.post("/predict/m", "other")  # so that the calls of both differ
        answers = [g.post(f"/predict/m?version={v}", "a").text for v in (1, 2, 1, 2)]
        assert answers == ["2:a", "1:a", "2:a", "1:a"]
        assert g.status("m")["cache"]["answers"] == 3
        g.configure(g.endpoint("m", [{**two, "weight": 100}], cache=1 << 20))
        deadline = time.monotonic() + SECONDS
        while g.status("m")["cache"]["answers"] > 1:
            assert time.monotonic() < deadline, g.status("m")
            time.sleep(0.01)
        assert is_hit(g.post("/predict/m", "a"))
        # The version comes back, and knows nothing of before.
        g.configure(g.endpoint("m", [{**two, "weight": 100}, {**one, "weight": 0}], cache=1 << 20))
        assert not is_hit(g.post("/predict/m?version=1", "a", headers={"Slipway-Timeout-Ms": "300"}))


def test_the_size_changes_while_it_is_served():
    with caching() as g:
        g.post("/predict/m", "a")
        routes = [route(deterministic=True)]
        g.configure(g.endpoint("m", routes, cache=2 << 20))
        assert is_hit(g.post("/predict/m", "a")) and g.status("m")["cache"]["max"] == 2 << 20
        g.configure(g.endpoint("m", routes, cache=1 << 20))
        deadline = time.monotonic() + SECONDS
        while is_hit(g.post("/predict/m", "a")):  # a smaller one begins anew
            assert time.monotonic() < deadline
        assert is_hit(g.post("/predict/m", "a"))
        g.configure(g.endpoint("m", routes, cache=0))
        assert not is_hit(g.post("/predict/m", "a")) and g.status("m")["cache"] is None
        g.configure(g.endpoint("m", [route(deterministic=False)], cache=1 << 20))
        assert not is_hit(g.post("/predict/m", "a")) and not is_hit(g.post("/predict/m", "a"))


def test_tensors_have_answers_too_and_each_request_its_own_wishes():
    infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}
    with caching(TENSORS) as g:
        first = g.infer("m", {**infer, "id": "one"})
        assert first.json["id"] == "one" and not is_hit(first)
        second = g.infer("m", {**infer, "id": "two", "outputs": [{"name": "calls"}]})
        assert second.json["id"] == "two" and is_hit(second)
        assert [o["name"] for o in second.json["outputs"]] == ["calls"] and second.json["outputs"][0]["data"] == [1.0]
        wrong = g.infer("m", {**infer, "outputs": [{"name": "nothing"}]})
        assert wrong.status == 400
        binary = g.infer("m", {**infer, "parameters": {"binary_data_output": True}})
        assert binary.status == 200 and is_hit(binary)
        head = json.loads(binary.body[: int(binary.headers["inference-header-content-length"])])
        assert head["outputs"][0]["parameters"]["binary_data_size"] == 8
        # Text is another kind of question, though its bytes may be the same.
        assert not is_hit(g.post("/predict/m", json.dumps(infer)))


def test_requests_at_the_same_time_and_one_that_gives_up():
    text = MODEL.replace("global calls", "import time; time.sleep(0.3); global calls")
    with caching(text) as g:
        late = in_background(lambda: g.post("/predict/m", "b", headers={"Slipway-Timeout-Ms": "100"}).status)
        assert late() == 504
        waiting = [in_background(lambda: g.post("/predict/m", "a")) for _ in range(3)]
        assert sorted(is_hit(wait()) for wait in waiting)[0] is False
        assert is_hit(g.post("/predict/m", "a"))
        assert not is_hit(g.post("/predict/m", "b"))  # nobody waited for the answer, so nobody checked it


def test_it_stays_within_its_size_and_is_given_back():
    with caching(cache=8 << 20) as g:
        connection = g.connection()
        for i in range(150):
            g.post("/predict/m", f"length 100000 {i}", connection=connection)
        connection.close()
        assert 7 << 20 < g.status("m")["cache"]["size"] <= 8 << 20
        g.configure(g.endpoint("m", [], cache=8 << 20))
        deadline = time.monotonic() + SECONDS
        while g.status("m")["cache"]["size"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_configurations_that_are_wrong():
    with Gateway() as g:
        for cache in (-1, (1 << 28) + 1, "much"):
            reply = g.control.request("configure", endpoints=[g.endpoint("m", [route()], cache=cache)])
            assert reply["error"]["code"] == "invalid_argument", (cache, reply)
