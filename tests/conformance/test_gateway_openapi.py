"""The OpenAPI document of the serving port: valid, complete, and kept by the gateway, whatever it is asked."""

import copy
import http.client
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

import openapi_spec_validator
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import BINARY, Gateway

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from contract import Contract  # noqa: E402

MODEL = '''
def init():
    pass


def predict(text):
    return text


def predict_tensors(inputs):
    return {name: value for name, value in inputs.items()}
'''


@pytest.fixture(scope="module")
def g():
    with Gateway() as gateway:
        gateway.package("echo", MODEL)
        x = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        gateway.configure(
            gateway.endpoint("text", [gateway.route("1", [1], code_weights="1.1")], model="test/text"),
            gateway.endpoint("tensors", [gateway.route("7", [2], code_weights="3.5", inputs=x, outputs=x)]),
            gateway.endpoint("absent", [gateway.route("1", [])], timeout_ms=300),
        )
        gateway.start_worker("echo", 1)
        gateway.start_worker("echo", 2)
        gateway.wait_ready("text")
        gateway.wait_ready("tensors")
        yield gateway


@pytest.fixture(scope="module")
def document(g):
    return g.get("/openapi.json", token=None).json


def operations(document):
    return [(method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def test_is_valid(document):
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1")


def test_is_what_the_program_prints(document):
    printed = subprocess.run([BINARY, "reference", "serving"], capture_output=True, check=True, text=True).stdout
    assert json.loads(printed) == document


def test_every_operation_is_described(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) and len(names) >= 25
    for _, path, operation in operations(document):
        assert operation["summary"] and operation["tags"], path
        in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)", path)), path
        assert "200" in operation["responses"] and "default" in operation["responses"], path


def check(document, method, path, reply):
    """An answer against the document; media ranges stand for all types."""
    contract = Contract(document)
    content_type = (reply.headers.get("content-type") or "").partition(";")[0]
    found = contract.operation(method, path)
    if found and reply.status < 400:
        content = contract.resolve(found[1]["responses"]["200"])["content"]
        if "*/*" in content:
            return
        assert content_type in content, (method, path, content_type)
    if content_type == "application/json":
        assert reply.json is not None, reply.text
        contract.check(method.upper(), path, reply.status, content_type, reply.json)


def test_good_requests_answer_as_documented(g, document):
    rows = [
        ("POST", "/predict/text", "hello"), ("POST", "/v2/models/tensors/infer", {"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}),
        ("POST", "/v2/models/tensors/versions/3.5/infer", {"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}),
        ("GET", "/v2/models/text", None), ("GET", "/v2/models/tensors/versions/7", None), ("GET", "/v2/models/text/ready", None),
        ("GET", "/v2/models/text/stats", None), ("GET", "/v2/models/stats", None), ("GET", "/v2/models/tensors/config", None), ("POST", "/v2/repository/index", {}),
        ("GET", "/v2", None), ("GET", "/v2/", None), ("GET", "/v2/health/live", None),
        ("POST", "/v1/models/tensors:predict", {"instances": [[1, 2]]}), ("POST", "/v1/models/text:predict", {"inputs": ["a"]}),
        ("GET", "/v1/models/tensors", None), ("POST", "/invocations?endpoint=text", {"instances": ["a"]}),
        ("GET", "/ping", None), ("GET", "/version", None), ("GET", "/metrics", None), ("GET", "/openapi.json", None),
    ]
    answered = set()
    for method, path, body in rows:
        reply = g.request(method, path, body if isinstance(body, (str, type(None))) else json.dumps(body),
                          headers={"Content-Type": "application/json"})
        assert reply.status == 200, (method, path, reply.text)
        check(document, method, path, reply)
        answered.add((method.lower(), Contract(document).operation(method, path)[0]))
    for path in ("/health", "/v2/health/ready"):  # one endpoint has no replica
        reply = g.get(path, token=None)
        assert reply.status == 503
        check(document, "GET", path, reply)
        answered.add(("get", path))
    missing = {(m, p) for m, p, _ in operations(document)} - answered
    assert all("/versions/" in p or p.endswith(("/load", "/unload")) for _, p in missing), missing


def test_the_check_can_fail(document):
    broken = copy.deepcopy(document)
    broken["components"]["schemas"]["ServerMetadata"]["required"].append("no-such-field")
    value = {"name": "slipway", "version": "1", "extensions": []}
    with pytest.raises(AssertionError, match="no-such-field"):
        Contract(broken).check("GET", "/v2", 200, "application/json", value)


# -- whatever it is asked --

NUMBERS = st.one_of(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.integers())
JSON = st.recursive(st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8)),
                    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
                    max_leaves=12)


def matching(document, schema, depth=0):
    """Values that a schema allows, and now and then others."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    types = schema.get("type")
    if "enum" in schema:
        good = st.sampled_from(schema["enum"])
    elif types == "object" or "properties" in schema:
        properties, required = schema.get("properties", {}), set(schema.get("required", ()))
        make = {name: matching(document, value, depth + 1) for name, value in properties.items()}
        good = st.fixed_dictionaries({n: make[n] for n in make if n in required},
                                     optional={n: make[n] for n in make if n not in required})
    elif types == "array":
        good = st.lists(matching(document, schema.get("items", {}), depth + 1), max_size=3)
    elif types in ("integer", "number"):
        good = NUMBERS if types == "number" else st.integers(-2, 5)
    elif types == "string":
        good = st.one_of(st.sampled_from(["x", "text"]), st.text(max_size=8))
    elif types == "boolean":
        good = st.booleans()
    else:
        good = JSON
    return st.one_of(good, good, good, JSON) if depth < 3 else good


NAMES = st.one_of(st.sampled_from(["text", "tensors", "absent", "test/text", "none"]), st.text(min_size=1, max_size=6))
VERSIONS = st.one_of(st.sampled_from(["1", "7", "3.5", "9"]), st.text(min_size=1, max_size=4))


def bodies(document, operation):
    content = operation.get("requestBody", {}).get("content")
    if not content:
        return st.just(("application/json", None))
    choices = []
    for media, value in content.items():
        if media == "application/json":
            value = matching(document, value["schema"]).map(json.dumps).map(str.encode)
            choices += [st.tuples(st.just(media), value)] * 3
        elif media == "text/csv":
            text = st.lists(st.lists(st.one_of(st.sampled_from(["x", "1", "2.5", ""]), st.text(max_size=4)), max_size=3), max_size=4)
            choices.append(st.tuples(st.just(media), text.map(lambda t: "\n".join(map(",".join, t)).encode())))
        choices.append(st.tuples(st.just("text/plain" if media == "*/*" else media), st.binary(max_size=64)))
    return st.one_of(choices)


@st.composite
def requests(draw, document):
    method, path, operation = draw(st.sampled_from(operations(document)))
    query, headers = {}, {}
    for p in operation["parameters"]:
        values = {"name": NAMES, "endpoint": NAMES, "Slipway-Endpoint": st.sampled_from(["text", "tensors", "none"]),
                  "version": VERSIONS, "Slipway-Timeout-Ms": st.sampled_from(["100", "0", "-1", "x", "99999999999999999999"]),
                  "Slipway-Priority": st.sampled_from(["10", "0", "-10", "11", "x", ""])}
        if p["in"] == "path":
            path = path.replace("{%s}" % p["name"], urllib.parse.quote(draw(values[p["name"]]), safe=""))
        elif draw(st.integers(0, 3)) == 0:
            (query if p["in"] == "query" else headers)[p["name"]] = draw(values[p["name"]])
    if query:
        path += "?" + urllib.parse.urlencode(query)
    media, body = draw(bodies(document, operation))
    if body is not None:
        headers["Content-Type"] = media
    for name, values in {"Content-Encoding": ["gzip", "deflate", "br"], "Accept-Encoding": ["gzip", "deflate;q=1, *;q=0"],
                         "Inference-Header-Content-Length": ["0", "5", "-1", "x"], "traceparent": ["00-x", "00-" + "0" * 52]}.items():
        if draw(st.integers(0, 9)) == 0:
            headers[name] = draw(st.sampled_from(values))
    return method.upper(), path, headers, body, draw(st.sampled_from(["good"] * 8 + ["bad", None]))


def test_whatever_is_asked_is_answered_as_documented(g, document):
    """No hang, no 5xx but those that say "not now", no answer that the document does not know."""
    seen = set()

    @settings(max_examples=400, deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
    @given(requests(document))
    def ask(request):
        method, path, headers, body, token = request
        try:
            reply = g.request(method, path, body, headers=headers, token=token, timeout=20)
        except http.client.HTTPException as e:
            raise AssertionError(f"{request}: {e!r}") from e
        seen.add(reply.status)
        assert reply.status < 500 or reply.status in (501, 503, 504), (request, reply.status, reply.text)
        if reply.status == 504:  # the endpoint without a replica
            assert "absent" in path or headers.get("Slipway-Endpoint"), (request, reply.text)
        if reply.headers.get("content-encoding"):
            return
        check(document, method, path, reply)

    ask()
    assert {200, 400, 401, 404} <= seen, seen
    route = g.status("text")["routes"][0]
    assert route["queued"] == route["running"] == 0
    assert g.post("/predict/text", "still there").text == "still there"
