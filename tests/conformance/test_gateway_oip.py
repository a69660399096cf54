"""The Open Inference Protocol v2: by hand, and by the real client of the Triton server."""

import json
import struct

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from gateway import Gateway, serving

TENSORS = '''
import numpy as np


def init():
    pass


def predict(text):
    return text[::-1]


def predict_tensors(inputs):
    if "fail" in inputs:
        raise ValueError("asked to fail")
    if "nan" in inputs:
        return {"nan": np.array([np.nan], np.float32)}
    return {name: (value + value if value.dtype != object else value[::-1]) for name, value in inputs.items()}
'''


@pytest.fixture(scope="module")
def g():
    with Gateway() as gateway:
        gateway.package("double", TENSORS)
        gateway.package("echo", "def init(): pass\ndef predict(text): return text.upper()")
        signature = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        gateway.configure(
            gateway.endpoint("double", [gateway.route("7", [1], code_weights="3.5", inputs=signature, outputs=signature)]),
            gateway.endpoint("text", [gateway.route("1", [2])], model="words/echo"),
        )
        gateway.start_worker("double", 1)
        gateway.start_worker("echo", 2)
        gateway.wait_ready("double")
        gateway.wait_ready("text")
        yield gateway


def tensor(name="x", datatype="FP32", shape=(2, 2), data=(1, 2, 3, 4), **more):
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data), **more}


def test_server_and_health(g):
    assert set(g.get("/v2", token=None).json) == {"name", "version", "extensions"} == set(g.get("/v2/", token=None).json)
    assert g.get("/v2/health/live", token=None).status == g.get("/v2/health/ready", token=None).status == 200


def test_infer_json(g):
    reply = g.infer("double", {"id": "a1", "inputs": [tensor()]})
    assert reply.json == {"model_name": "double", "model_version": "7", "id": "a1",
                          "outputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [2, 4, 6, 8]}]}
    nested = g.infer("double", {"inputs": [tensor(data=[[1, 2], [3, 4]])]}, version="3.5")
    assert nested.json["outputs"] == reply.json["outputs"] and "id" not in nested.json


@pytest.mark.parametrize(
    "datatype, data, doubled",
    [("INT8", [-64, 63], [-128, 126]), ("INT64", [2**40, -1], [2**41, -2]), ("UINT8", [0, 127], [0, 254]),
     ("UINT16", [1, 2], [2, 4]), ("UINT32", [2**31 - 1, 0], [2**32 - 2, 0]), ("UINT64", [2**40, 0], [2**41, 0]),
     ("INT16", [1, -1], [2, -2]), ("INT32", [1, -1], [2, -2]), ("FP64", [0.1, 1e300], [0.2, 2e300]),
     ("BOOL", [True, False], [True, False]), ("BYTES", ["a", "grüße"], ["grüße", "a"])],
)
def test_every_type(g, datatype, data, doubled):
    reply = g.infer("double", {"inputs": [tensor("t", datatype, [2], data)]})
    assert reply.json["outputs"] == [{"name": "t", "datatype": datatype, "shape": [2], "data": doubled}]


def test_a_text_model_takes_bytes(g):
    reply = g.infer("words%2Fecho", {"inputs": [tensor("text", "BYTES", [2, 1], ["a", "b"])]})
    assert reply.json["outputs"] == [{"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": ["A", "B"]}]
    reply = g.infer("text", {"inputs": [tensor()]})
    assert reply.status == 400 and "BYTES" in reply.json["error"]


def test_outputs_are_chosen(g):
    reply = g.infer("double", {"inputs": [tensor("a"), tensor("b")], "outputs": [{"name": "b"}]})
    assert [o["name"] for o in reply.json["outputs"]] == ["b"]
    assert g.infer("double", {"inputs": [tensor("a")], "outputs": [{"name": "z"}]}).status == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"inputs":[]}', b'{"inputs":[{}]}', b'{"inputs":[1]}', b'{"inputs":{"a":1}}',
     json.dumps({"inputs": [tensor(datatype="FLOAT")]}).encode(), json.dumps({"inputs": [tensor(shape=[2])]}).encode(),
     json.dumps({"inputs": [tensor(shape=[5])]}).encode(), json.dumps({"inputs": [tensor(shape=[-1, 2])]}).encode(),
     json.dumps({"inputs": [tensor(shape=[2**40, 2**40])]}).encode(), json.dumps({"inputs": [tensor(shape=[1] * 9)]}).encode(),
     json.dumps({"inputs": [tensor(data=["a", 1, 2, 3])]}).encode(), json.dumps({"inputs": [tensor(datatype="INT8", data=[1, 2, 3, 128])]}).encode(),
     json.dumps({"inputs": [tensor(datatype="UINT8", data=[1, 2, 3, -1])]}).encode(), json.dumps({"inputs": [tensor(datatype="FP16")]}).encode(),
     json.dumps({"inputs": [tensor(data=[1, 2, 3, 1e300])]}).encode(), json.dumps({"inputs": [tensor()], "id": 5}).encode(),
     json.dumps({"inputs": [tensor()], "outputs": [{}]}).encode(), json.dumps({"inputs": [tensor("n" * 200)]}).encode(),
     json.dumps({"inputs": [tensor(parameters={"binary_data_size": 99})]}).encode(),
     json.dumps({"inputs": [tensor(parameters={"binary_data_size": -1})]}).encode(), b"[" * 100_000],
)
def test_requests_that_are_wrong(g, body):
    reply = g.post("/v2/models/double/infer", body)
    assert reply.status == 400 and isinstance(reply.json["error"], str) and set(reply.json) == {"error"}


def test_failures_of_the_model(g):
    reply = g.infer("double", {"inputs": [tensor("fail")]})
    assert (reply.status, reply.json["error"]) == (500, "ValueError: asked to fail")
    reply = g.infer("double", {"inputs": [tensor("nan")]})
    assert reply.status == 500 and "binary" in reply.json["error"]


def test_unknown_models_and_versions(g):
    for reply in (g.get("/v2/models/none"), g.get("/v2/models/none/ready"), g.infer("none", {}), g.get("/v2/models/double/versions/8"),
                  g.get("/v2/models/double/versions/8/ready"), g.infer("double", {"inputs": [tensor()]}, version="8")):
        assert reply.status == 404 and isinstance(reply.json["error"], str)
    assert g.infer("double", {}, token=None).status == 401


def test_binary_headers_that_lie(g):
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}).encode()
    tail = struct.pack("<2f", 1, 2)
    good = {"Inference-Header-Content-Length": str(len(body))}
    assert g.post("/v2/models/double/infer", body + tail, headers=good).json["outputs"][0]["data"] == [2, 4]
    for headers in ({"Inference-Header-Content-Length": "99999"}, {"Inference-Header-Content-Length": "-1"},
                    {"Inference-Header-Content-Length": "x"}, {"Inference-Header-Content-Length": str(len(body) - 1)}):
        assert g.post("/v2/models/double/infer", body + tail, headers=headers).status == 400
    for wrong in (body + tail[:4], body + tail + b"x"):
        assert g.post("/v2/models/double/infer", wrong, headers=good).status == 400
    raw = g.post("/v2/models/double/infer", tail, headers={"Inference-Header-Content-Length": "0"})
    assert raw.json["outputs"][0]["data"] == [2, 4]


# -- tritonclient --


def auth():
    return {"Authorization": "Bearer good"}  # the client writes into what it is given


@pytest.fixture
def client(g):
    c = triton.InferenceServerClient(f"127.0.0.1:{g.port}")
    yield c
    c.close()


def test_triton_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("double")
    assert client.is_model_ready("double", "7") and not client.is_model_ready("double", "8")
    assert client.get_server_metadata()["name"] == "slipway"
    metadata = client.get_model_metadata("double", headers=auth())
    assert metadata["versions"] == ["7"] and metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert client.get_model_config("double", headers=auth())["input"][0]["data_type"] == "TYPE_FP32"


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_triton_infer(client, binary_in, binary_out, compression):
    value = np.arange(6, dtype=np.float32).reshape(3, 2)
    x = triton.InferInput("x", [3, 2], "FP32")
    x.set_data_from_numpy(value, binary_data=binary_in)
    words = triton.InferInput("words", [2], "BYTES")
    words.set_data_from_numpy(np.array([b"a", b"bc"], object), binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(n, binary_data=binary_out) for n in ("x", "words")]
    result = client.infer("double", [x, words], outputs=outputs, headers=auth(), request_id="r1",
                          request_compression_algorithm=compression, response_compression_algorithm=compression)
    assert np.array_equal(result.as_numpy("x"), value + value)
    words = result.as_numpy("words").tolist()
    assert [w if isinstance(w, bytes) else w.encode() for w in words] == [b"bc", b"a"]
    assert result.get_response()["id"] == "r1"


def test_triton_infer_of_halves_and_defaults(client):
    x = triton.InferInput("h", [2], "FP16")
    x.set_data_from_numpy(np.array([0.5, 2], np.float16))
    assert client.infer("double", [x], headers=auth()).as_numpy("h").tolist() == [1, 4]


def test_triton_errors_are_the_protocols(client):
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_metadata("none", headers=auth())
    assert "no endpoint none" in caught.value.message()


def test_triton_statistics_and_repository(client):
    stats = client.get_inference_statistics("double", headers=auth())["model_stats"]
    assert stats[0]["version"] == "7" and stats[0]["inference_stats"]["success"]["count"] > 0
    index = client.get_model_repository_index(headers=auth())
    assert {(m["name"], m["version"], m["state"]) for m in index} == {("double", "7", "READY"), ("text", "1", "READY")}


def test_triton_statistics_of_all_models(client):
    stats = client.get_inference_statistics()["model_stats"]
    assert {(m["name"], m["version"]) for m in stats} == {("double", "7"), ("text", "1")}


@pytest.mark.parametrize("call", ["load_model", "unload_model"])
def test_triton_learns_that_models_are_deployed(client, call):
    with pytest.raises(InferenceServerException) as caught:
        getattr(client, call)("double")
    assert "slipway endpoint deploy" in caught.value.message()
    assert client.is_model_ready("double")


def test_triton_learns_what_is_not_there(client):
    for call in (client.get_trace_settings, client.get_log_settings, client.get_system_shared_memory_status):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert "there is no /v2/" in caught.value.message()


def test_triton_raw_bytes_of_a_text_model(client):
    text = triton.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array([b"a", "grüße".encode()], object))
    result = client.infer("words/echo", [text], headers=auth(), response_compression_algorithm="gzip")
    assert [w.decode() if isinstance(w, bytes) else w for w in result.as_numpy("text").tolist()] == ["A", "GRÜSSE"]


def test_triton_in_parallel():
    with serving(TENSORS, "double") as g:
        c = triton.InferenceServerClient(f"127.0.0.1:{g.port}", concurrency=4)
        x = triton.InferInput("x", [1], "INT64")
        x.set_data_from_numpy(np.array([21], np.int64))
        replies = [c.async_infer("double", [x], headers=auth(), request_id=str(i)) for i in range(40)]
        results = [r.get_result() for r in replies]
        assert [r.get_response()["id"] for r in results] == [str(i) for i in range(40)]
        assert all(r.as_numpy("x").tolist() == [42] for r in results)
        c.close()
