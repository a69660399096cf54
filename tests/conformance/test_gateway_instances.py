"""TensorFlow Serving's and MLflow's protocols: rows, columns and data frames, for tensors and for text."""

import base64
import gzip
import json
import threading
import time

import pytest
import requests

from gateway import Gateway

# Two inputs, two outputs; the outputs of one instance depend on that instance alone.
TENSORS = '''
import numpy as np


def init():
    pass


def predict(text):
    raise ValueError("tensors only")


def predict_tensors(inputs):
    if "words" in inputs:
        return {"echo": np.array([b"\\xff" + w if w == b"raw" else w for w in inputs["words"].tolist()], object)}
    if "x" in inputs and "y" in inputs:
        return {"sum": inputs["x"] + inputs["y"], "pair": np.stack([inputs["x"], inputs["y"]], 1)}
    x = inputs["x"]
    if (x == 13).any():
        raise ValueError("thirteen")
    if (x == 14).any():
        return {"a": x, "b": x[:1]}
    return {"twice": x * 2}
'''

TEXT = '''
import json, threading, time

running, most, lock = 0, 0, threading.Lock()


def init():
    pass


def predict(text):
    if text == "sleep":
        time.sleep(0.5)
    if text == '"no"' or text == "no":
        raise ValueError("said no")
    if text.startswith("["):
        return json.dumps(sum(json.loads(text)))
    if text.startswith("{"):
        return json.dumps(json.loads(text), sort_keys=True)
    return text.upper()
'''


@pytest.fixture(scope="module")
def g():
    with Gateway() as gateway:
        gateway.package("tensors", TENSORS)
        gateway.package("text", TEXT)
        x = {"name": "x", "datatype": "FP32"}
        wide = [{**x, "shape": [-1, 2]}]
        two = [{**x, "shape": [-1]}, {"name": "y", "datatype": "FP32", "shape": [-1]}]
        words = [{"name": "words", "datatype": "BYTES", "shape": [-1]}]
        tall = [{**x, "shape": [-1, 1]}]
        half = [{"name": "x", "datatype": "FP16", "shape": [-1]}]
        gateway.configure(
            gateway.endpoint("wide", [gateway.route("7", [1], code_weights="3.5", inputs=wide)], model="test/wide"),
            gateway.endpoint("two", [gateway.route("1", [2], inputs=two)]),
            gateway.endpoint("words", [gateway.route("1", [3], inputs=words)]),
            gateway.endpoint("tall", [gateway.route("1", [4], inputs=tall)]),
            gateway.endpoint("text", [gateway.route("1", [5])]),
            gateway.endpoint("half", [gateway.route("1", [], inputs=half)]),
        )
        for number, package in enumerate(("tensors", "tensors", "tensors", "tensors", "text"), 1):
            gateway.start_worker(package, number)
        for name in ("wide", "two", "words", "tall", "text"):
            gateway.wait_ready(name)
        yield gateway


def predict(g, model, body, version=None, **options):
    path = f"/v1/models/{model}" + (f"/versions/{version}" if version else "") + ":predict"
    return g.post(path, body if isinstance(body, (str, bytes)) else json.dumps(body), **options)


def invoke(g, endpoint, body, type="application/json", **options):
    headers = {"Content-Type": type, **({"Slipway-Endpoint": endpoint} if endpoint else {}), **options.pop("headers", {})}
    return g.post("/invocations", body if isinstance(body, (str, bytes)) else json.dumps(body), headers=headers, **options)


# -- TensorFlow Serving --


@pytest.mark.parametrize(
    "model, request_, answer",
    [
        ("wide", {"instances": [[1, 2], [3, 4]]}, {"predictions": [[2, 4], [6, 8]]}),
        ("wide", {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, {"predictions": [[2, 4], [6, 8]]}),
        ("wide", {"inputs": [[1, 2]]}, {"outputs": [[2, 4]]}),
        ("wide", {"inputs": {"x": [[1, 2]]}, "signature_name": "serving_default"}, {"outputs": [[2, 4]]}),
        ("wide", {"instances": [[1, 2]], "signature_name": ""}, {"predictions": [[2, 4]]}),
        ("two", {"instances": [{"x": 1, "y": 2}, {"y": 4, "x": 3}]},
         {"predictions": [{"sum": 3, "pair": [1, 2]}, {"sum": 7, "pair": [3, 4]}]}),
        ("two", {"inputs": {"x": [1, 3], "y": [2, 4]}}, {"outputs": {"sum": [3, 7], "pair": [[1, 2], [3, 4]]}}),
        ("tall", {"instances": [1, 2, 3]}, {"predictions": [[2], [4], [6]]}),
        ("words", {"instances": ["a", "grüße", {"b64": base64.b64encode(b"b").decode()}]},
         {"predictions": ["a", "grüße", "b"]}),
        ("words", {"instances": ["raw"]}, {"predictions": [{"b64": base64.b64encode(b"\xffraw").decode()}]}),
        ("text", {"instances": [[1, 2], "hello", {"b": 1, "a": None}, 7, True, "[3]"]},
         {"predictions": [3, "HELLO", {"a": None, "b": 1}, 7, "TRUE", 3]}),
        ("text", {"inputs": {"text": ["a", "b"]}}, {"outputs": ["A", "B"]}),
        ("text", {"instances": [{"b64": base64.b64encode(b"bytes").decode()}]}, {"predictions": ["BYTES"]}),
        ("text", {"instances": ["a\0b"]}, {"predictions": ["A\0B"]}),
    ],
)
def test_tensorflow_serving(g, model, request_, answer):
    reply = predict(g, model, request_)
    assert (reply.status, reply.json) == (200, answer), reply.text
    assert reply.headers["content-type"] == "application/json"


def test_versions_and_addresses(g):
    for path in ("wide/versions/7", "wide/versions/3.5", "test%2Fwide", "test/wide"):
        assert g.post(f"/v1/models/{path}:predict", '{"instances":[[1,2]]}').json == {"predictions": [[2, 4]]}, path
    assert predict(g, "wide", {"instances": [[1, 2]]}, version="8").status == 404


def test_status_of_a_model(g):
    reply = g.get("/v1/models/wide")
    assert reply.json == {"model_version_status": [
        {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}
    assert g.get("/v1/models/wide/versions/7").json == reply.json
    assert g.get("/v1/models/half").json["model_version_status"][0]["state"] == "LOADING"
    for path in ("/v1/models/none", "/v1/models/wide/versions/8"):
        reply = g.get(path)
        assert reply.status == 404 and isinstance(reply.json["error"], str)
    assert g.get("/v1/models/wide", token=None).status == 401


@pytest.mark.parametrize(
    "model, body, words",
    [
        ("wide", b"", "JSON"), ("wide", b"[]", "object"), ("wide", {}, "either"), ("wide", {"instances": []}, "at least one"),
        ("wide", {"instances": [[1, 2]], "inputs": []}, "either"), ("wide", {"instances": 5}, "at least one"),
        ("wide", {"instances": [[1, 2]], "colour": 1}, "colour"), ("wide", {"instances": [[1, 2, 3]]}, "[-1,2]"),
        ("wide", {"instances": [1, 2]}, "dimensions"), ("wide", {"instances": [[1, 2], [3]]}, "one shape"),
        ("wide", {"instances": [[1, "a"]]}, "FP32"), ("wide", {"instances": [[1, 2]], "signature_name": "other"}, "serving_default"),
        ("wide", {"instances": [{"x": [1, 2]}, [1, 2]]}, "instance 1"), ("wide", {"instances": [{"z": [1, 2]}]}, "'x' is missing"),
        ("wide", {"instances": [{"x": [1, 2], "z": 1}]}, "no input 'z'"), ("two", {"instances": [1, 2]}, "name them"),
        ("two", {"inputs": {"x": [1]}}, "'y' is missing"), ("words", {"instances": [{"b64": "!"}]}, "BYTES"),
        ("words", {"instances": [7]}, "BYTES"), ("half", {"instances": [1]}, "FP16"),
        ("wide", {"instances": [[[[[[[[[[1]]]]]]]]]]}, "dimensions"), ("text", {"instances": []}, "at least one"),
        ("text", {"inputs": {"other": ["a"]}}, "'text'"), ("text", {"instances": [{"b64": "!"}]}, "base64"),
        ("text", {"instances": ["a"] * 10001}, "10000"),
    ],
)
def test_what_tensorflow_serving_refuses(g, model, body, words):
    reply = predict(g, model, body)
    assert reply.status in (400, 413) and set(reply.json) == {"error"} and words in reply.json["error"], reply.text


def test_failures_of_the_model(g):
    reply = predict(g, "wide", {"instances": [[13, 1]]})
    assert (reply.status, reply.json) == (500, {"error": "ValueError: thirteen"})
    reply = predict(g, "wide", {"instances": [[14, 1], [1, 1]]})
    assert reply.status == 500 and "rows" in reply.json["error"]
    reply = predict(g, "text", {"instances": ["a", "no", "b"]})
    assert (reply.status, reply.json) == (500, {"error": "ValueError: said no"})
    assert predict(g, "text", {"instances": ["a"]}).json == {"predictions": ["A"]}


def test_many_instances_of_text_keep_their_order(g):
    words = [f"w{i}" for i in range(1000)]
    assert predict(g, "text", {"instances": words}).json["predictions"] == [w.upper() for w in words]


def test_one_request_is_counted_once(g):
    def count():
        route = g.status("text")["routes"][0]
        return route["outcomes"]["ok"], route["queued"], route["running"]

    before = count()[0]
    predict(g, "text", {"instances": ["a"] * 50})
    assert count() == (before + 1, 0, 0)


def test_a_deadline_and_a_client_that_leaves_end_all_parts(g):
    reply = predict(g, "text", {"instances": ["sleep"] * 20}, headers={"Slipway-Timeout-Ms": "200"})
    assert reply.status == 504
    with pytest.raises(requests.Timeout):
        requests.post(f"http://127.0.0.1:{g.port}/v1/models/text:predict", timeout=0.2,
                      json={"instances": ["sleep"] * 20}, headers={"Authorization": "Bearer good"})
    deadline = time.monotonic() + 20
    while True:
        route = g.status("text")["routes"][0]
        if route["queued"] == route["running"] == 0:
            break
        assert time.monotonic() < deadline, route
        time.sleep(0.05)
    g.wait_ready("text")
    assert predict(g, "text", {"instances": ["a"]}).json == {"predictions": ["A"]}


def test_parts_of_a_lost_worker_fail_the_whole():
    with Gateway() as g:
        g.package("text", TEXT)
        g.configure(g.endpoint("text"))
        worker = g.start_worker("text")
        g.wait_ready("text")
        threading.Timer(0.2, worker.kill).start()
        reply = predict(g, "text", {"instances": ["sleep"] * 5})
        assert reply.status == 503 and isinstance(reply.json["error"], str)
        route = g.status("text")["routes"][0]
        assert route["queued"] == route["running"] == 0


def test_a_queue_that_is_full_fails_the_whole():
    with Gateway() as g:
        g.package("text", TEXT)
        g.configure(g.endpoint("text", queue=3))
        reply = predict(g, "text", {"instances": ["a"] * 5})
        assert reply.status == 503 and "wait already" in reply.json["error"]
        assert g.status("text")["routes"][0]["queued"] == 0


def test_packed_bodies(g):
    body = gzip.compress(json.dumps({"instances": [[1, 2]]}).encode())
    assert predict(g, "wide", body, headers={"Content-Encoding": "gzip"}).json == {"predictions": [[2, 4]]}
    assert predict(g, "wide", body).status == 400
    assert predict(g, "wide", body, headers={"Content-Encoding": "br"}).status == 400


# -- MLflow --


@pytest.mark.parametrize(
    "endpoint, request_, predictions",
    [
        ("wide", {"inputs": [[1, 2], [3, 4]]}, [[2, 4], [6, 8]]),
        ("wide", {"instances": [[1, 2], [3, 4]], "params": {}}, [[2, 4], [6, 8]]),
        ("wide", {"dataframe_split": {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 2], [3, 4]]}}, [[2, 4], [6, 8]]),
        ("wide", {"dataframe_split": {"data": [[1, 2]]}}, [[2, 4]]),
        ("wide", {"dataframe_records": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}, [[2, 4], [6, 8]]),
        ("two", {"dataframe_split": {"columns": ["y", "x"], "data": [[2, 1], [4, 3]]}},
         {"sum": [3, 7], "pair": [[1, 2], [3, 4]]}),
        ("two", {"inputs": {"x": [1], "y": [2]}}, {"sum": [3], "pair": [[1, 2]]}),
        ("tall", {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}, [[2], [4]]),
        ("tall", {"dataframe_split": {"columns": ["z"], "data": [[1], [2]]}}, [[2], [4]]),
        ("text", {"inputs": ["a", [1, 2]]}, ["A", 3]),
        ("text", {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [2, None]]}},
         [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ("text", {"dataframe_split": {"data": [[1, 2], [3, 4]]}}, [3, 7]),
        ("text", {"dataframe_records": [{"a": 1}]}, [{"a": 1}]),
    ],
)
def test_mlflow(g, endpoint, request_, predictions):
    reply = invoke(g, endpoint, request_)
    assert (reply.status, reply.json) == (200, {"predictions": predictions}), reply.text


def test_mlflow_csv(g):
    assert invoke(g, "wide", "a,b\n1,2\n3,4.5\n", "text/csv").json == {"predictions": [[2, 4], [6, 9]]}
    assert invoke(g, "two", "y,x\r\n2,1\r\n", "text/csv; charset=utf-8").json["predictions"]["sum"] == [3]
    assert invoke(g, "text", 'a,b\n1,"x, y"\n,2\n', "text/csv").json == {
        "predictions": [{"a": 1, "b": "x, y"}, {"a": None, "b": 2}]}
    packed = gzip.compress(b"a,b\n1,2\n", mtime=0)
    assert invoke(g, "wide", packed, "text/csv", headers={"Content-Encoding": "gzip"}).json == {"predictions": [[2, 4]]}


@pytest.mark.parametrize(
    "body, type, words",
    [
        (b"", "application/json", "JSON"), ({}, "application/json", "one of"), ([], "application/json", "one of"),
        ({"inputs": [[1, 2]], "instances": []}, "application/json", "one of"),
        ({"inputs": [[1, 2]], "params": {"a": 1}}, "application/json", "params"),
        ({"dataframe_split": []}, "application/json", "object"), ({"dataframe_split": {"data": []}}, "application/json", "no rows"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "application/json", "one value for each"),
        ({"dataframe_split": {"columns": [1, 2], "data": [[1, 2]]}}, "application/json", "names"),
        ({"dataframe_split": {"columns": "ab", "data": [[1, 2]]}}, "application/json", "names"),
        ({"dataframe_records": {}}, "application/json", "at least one"), ({"dataframe_records": [1]}, "application/json", "fields"),
        ({"dataframe_records": [{"a": 1, "b": 2}, {"a": 1}]}, "application/json", "record 1"),
        (b"", "text/csv", "no rows"), (b"a,b\n", "text/csv", "no rows"), (b"a,b\n1\n", "text/csv", "line 2"),
        (b"a,b\n1,x\n", "text/csv", "FP32"), (gzip.compress(b"a,b\n1,2\n", mtime=0), "text/csv", "Content-Encoding"),
        (b"a,b\n\xff,1\n", "text/csv", "FP32"),
    ],
)
def test_what_mlflow_refuses(g, body, type, words):
    reply = invoke(g, "wide", body, type)
    assert reply.status == 400 and reply.json["error_code"] == "BAD_REQUEST" and words in reply.json["message"], reply.text


def test_data_frames_of_text_have_distinct_names(g):
    reply = invoke(g, "text", {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}})
    assert reply.status == 400 and "one name" in reply.json["message"]


def test_which_endpoint_is_meant(g):
    body = json.dumps({"inputs": [[1, 2]]})
    reply = g.post("/invocations", body)
    assert reply.status == 400 and "Slipway-Endpoint" in reply.json["message"]
    assert g.post("/invocations?endpoint=wide", body).json == {"predictions": [[2, 4]]}
    assert g.post("/invocations?endpoint=test%2Fwide&version=3.5", body).json == {"predictions": [[2, 4]]}
    reply = g.post("/invocations?endpoint=none", body)
    assert (reply.status, reply.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    reply = g.post("/invocations?endpoint=wide", body, token=None)
    assert (reply.status, reply.json["error_code"]) == (401, "UNAUTHENTICATED")
    with Gateway() as alone:
        assert alone.post("/invocations", body).status == 404
        alone.package("text", TEXT)
        alone.configure(alone.endpoint("text"))
        alone.start_worker("text")
        alone.wait_ready("text")
        assert alone.post("/invocations", '{"inputs":["a"]}').json == {"predictions": ["A"]}
    for path in ("/ping", "/health", "/version"):
        assert g.get(path, token=None).status in (200, 503)
