"""Slipway-Priority: who is served first where requests wait, and who gives way where no more may."""

from gateway import serving
from test_gateway_batch import post_later, wait_until

# "order" returns what was asked for so far.
MODEL = '''
import time

seen = []


def init():
    pass


def predict(text):
    if text == "order":
        return " ".join(seen)
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
    else:
        seen.append(text)
    return text
'''


def later(g, text, priority=None):
    return post_later(g, text, headers={"Slipway-Priority": str(priority)} if priority is not None else None)


def test_the_important_first_and_equals_in_order():
    with serving(MODEL, "m") as g:
        busy = later(g, "sleep 0.6", -10)
        wait_until(g, "running", 1)
        waiting = [later(g, f"{name}{'' if p is None else p}", p)
                   for name, p in (("a", None), ("b", -3), ("c", 10), ("d", 0), ("e", 10), ("f", -10), ("g", 2))]
        assert [wait().status for wait in [busy, *waiting]] == [200] * 8
        assert g.post("/predict/m", "order").text == "c10 e10 g2 a d0 b-3 f-10"


def test_a_batch_is_of_the_most_important():
    text = MODEL + "\n\ndef predict_batch(texts):\n    return [predict(text) for text in texts]\n"
    with serving(text, "m", routes=[{"version": "1", "batch": {"size": 2},
                                     "replicas": [{"id": f"{1:032x}", "key": "key-1"}]}]) as g:
        busy = later(g, "sleep 0.6")
        wait_until(g, "running", 1)
        waiting = [later(g, "a"), later(g, "b", 1), later(g, "c", 5)]
        assert [wait().status for wait in [busy, *waiting]] == [200] * 4
        assert g.post("/predict/m", "order").text == "c b a"
        assert g.status("m")["routes"][0]["batches"] == {"count": 4, "requests": 5}


def test_the_newest_of_the_least_gives_way_to_who_is_more():
    with serving(MODEL, "m", queue=3) as g:
        busy = later(g, "sleep 1")
        wait_until(g, "running", 1)
        a, b, c = later(g, "a", 1), later(g, "b", -1), later(g, "c", -1)
        wait_until(g, "queued", 3)
        for priority in ("-1", "-5"):
            refused = g.post("/predict/m", "x", headers={"Slipway-Priority": priority})
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
        d = later(g, "d")
        gave_way = c()
        assert gave_way.status == 503 and int(gave_way.headers["retry-after"]) >= 1
        assert "higher priority" in gave_way.json["error"]["message"]
        e = later(g, "e", 1)
        assert b().status == 503
        f = later(g, "f", 10)
        assert d().status == 503
        assert g.post("/predict/m", "x", headers={"Slipway-Priority": "1"}).status == 503  # equals stay
        assert [wait().status for wait in (busy, a, e, f)] == [200] * 4
        assert g.post("/predict/m", "order").text == "f a e"
        assert g.status("m")["routes"][0]["outcomes"]["queue_full"] == 6


def test_priorities_that_are_none():
    with serving(MODEL, "m") as g:
        for text in ("11", "-11", "high", "", "1.5", "0x1", "1 2", "99999999999999999999"):
            reply = g.post("/predict/m", "a", headers={"Slipway-Priority": text})
            assert reply.status == 400 and "Slipway-Priority" in reply.json["error"]["message"], text
            assert g.get("/v2/models/m", headers={"Slipway-Priority": text}).status == 400, text
        for text in ("-10", "10"):
            assert g.post("/predict/m", "a", headers={"Slipway-Priority": text}).status == 200
