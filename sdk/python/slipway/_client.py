"""A client for the control port and the serving port, with nothing but the standard library."""

import http.client
import io
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse
import zipfile

FINAL_STATES = ("succeeded", "failed", "stopped", "lost")


class SlipwayError(Exception):
    """An error that the server reported: `code` is machine-readable, `status` the HTTP status."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status = status
        self.code = code


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """Talks to a Slipway daemon.

    url        control port: "http://127.0.0.1:8470", "https://…" or "unix:/path/slipway.sock";
               default $SLIPWAY_URL
    token      bearer token; default $SLIPWAY_TOKEN
    serve_url  serving port; default $SLIPWAY_SERVE_URL, else port 8480 of the same host
    project    default $SLIPWAY_PROJECT or the token's

    One connection is kept open a thread; a request on one that the server closed meanwhile is sent again.
    """

    def __init__(self, url=None, token=None, serve_url=None, project=None, timeout=60.0, ca_file=None):
        self.url = url or os.environ.get("SLIPWAY_URL") or "http://127.0.0.1:8470"
        self.token = token or os.environ.get("SLIPWAY_TOKEN")
        self.project = project or os.environ.get("SLIPWAY_PROJECT")
        self.timeout = timeout
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._local = threading.local()
        if serve_url is None:
            serve_url = os.environ.get("SLIPWAY_SERVE_URL")
        if serve_url is None and not self.url.startswith("unix:"):
            parts = urllib.parse.urlsplit(self.url)
            serve_url = f"{parts.scheme}://{parts.hostname}:8480"
        self.serve_url = serve_url or "http://127.0.0.1:8480"

    # -- plumbing --

    def _connection(self, url):
        pool = self._local.__dict__.setdefault("pool", {})
        if url not in pool:
            if url.startswith("unix:"):
                pool[url] = _UnixConnection(url[5:], self.timeout)
            else:
                parts = urllib.parse.urlsplit(url)
                if parts.scheme == "https":
                    pool[url] = http.client.HTTPSConnection(parts.netloc, timeout=self.timeout, context=self._tls)
                elif parts.scheme == "http":
                    pool[url] = http.client.HTTPConnection(parts.netloc, timeout=self.timeout)
                else:
                    raise ValueError(f"{url!r} is not a URL; expected http://, https:// or unix:/path")
        return pool[url]

    def _send(self, url, method, path, body, headers):
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._connection(url)
        fresh = connection.sock is None
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            # A kept connection may have been closed while idle: then nothing was processed.
            if fresh or hasattr(body, "read"):
                raise
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except BaseException:
            connection.close()
            raise

    @staticmethod
    def _raise(status, data):
        try:
            error = json.loads(data)["error"]
        except (ValueError, KeyError, TypeError):
            error = data.decode("utf-8", "replace")
        if isinstance(error, dict):
            raise SlipwayError(status, error.get("code", "unknown"), error.get("message", ""))
        raise SlipwayError(status, "unknown", str(error) or f"HTTP status {status}")

    def request(self, method, path, body=None, query=None, content_type="application/json"):
        """One call of the API; JSON in, JSON out (bytes if the reply is not JSON)."""
        query = {k: v for k, v in (query or {}).items() if v is not None}
        if self.project and "project" not in query:
            query["project"] = self.project
        if query:
            path += "?" + urllib.parse.urlencode(query)
        headers = {}
        if body is not None:
            headers["Content-Type"] = content_type
            if not isinstance(body, (bytes, bytearray)) and not hasattr(body, "read"):
                body = json.dumps(body).encode()
        status, reply_headers, data = self._send(self.url, method, path, body, headers)
        if status >= 400:
            self._raise(status, data)
        if "json" in (reply_headers.get("Content-Type") or ""):
            return json.loads(data) if data else None
        return data

    def pages(self, path, **query):
        """All elements of a list, page by page."""
        after = None
        while True:
            page = self.request("GET", path, query={**query, "after": after})
            yield from page["items"]
            after = page.get("next")
            if after is None:
                return

    # -- control plane --

    def upload(self, data):
        """Stores bytes, or a file opened in binary mode, as a blob; returns its digest."""
        return self.request("POST", "/api/v1/blobs", data, content_type="application/octet-stream")["digest"]

    def run(self, code, entry=None, **fields):
        """Submits a run of a script, a directory or a zip. Fields are those of the API: datasets,
        parameters, resources, environment, model, gate, priority, timeout_ms, retries, network."""
        archive, script = _pack(code)
        body = {"code": self.upload(archive), **fields}
        if entry is None and script:
            entry = ["python3", script]
        if entry is not None:
            body["entry"] = list(entry)
        return self.request("POST", "/api/v1/runs", body)

    def get_run(self, run_id):
        return self.request("GET", f"/api/v1/runs/{run_id}")

    def wait(self, run_id, timeout=None, poll=0.2):
        """Waits for the end of a run and returns it. TimeoutError if it takes longer (seconds)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            run = self.get_run(run_id)
            if run["state"] in FINAL_STATES:
                return run
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"run {run_id} is still {run['state']}")
            time.sleep(poll)

    def stop(self, run_id):
        return self.request("POST", f"/api/v1/runs/{run_id}/stop")

    def runs(self, **query):
        return self.pages("/api/v1/runs", **query)

    def datasets(self, **query):
        return self.pages("/api/v1/datasets", **query)

    def models(self, **query):
        return self.pages("/api/v1/models", **query)

    # -- serving --

    def predict(self, endpoint, text, timeout=None):
        """Sends a string to a model and returns its string; `timeout` (seconds) is its deadline."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if timeout is not None:
            headers["Slipway-Timeout-Ms"] = str(int(timeout * 1000))
        path = "/predict/" + urllib.parse.quote(endpoint, safe="")
        status, _, data = self._send(self.serve_url, "POST", path, text.encode(), headers)
        if status >= 400:
            self._raise(status, data)
        return data.decode()

    def infer(self, model, inputs, version=None):
        """Open Inference Protocol v2: {name: array or nested list} in, {name: nested list or array} out."""
        path = f"/v2/models/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            path += f"/versions/{urllib.parse.quote(str(version), safe='')}"
        body = json.dumps({"inputs": [_tensor(name, value) for name, value in inputs.items()]}).encode()
        status, _, data = self._send(self.serve_url, "POST", path + "/infer", body, {"Content-Type": "application/json"})
        if status >= 400:
            self._raise(status, data)
        return {output["name"]: _untensor(output) for output in json.loads(data)["outputs"]}


_OIP = {"bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
        "int16": "INT16", "int32": "INT32", "int64": "INT64", "float32": "FP32", "float64": "FP64"}


def _shape(value):
    return [len(value)] + (_shape(value[0]) if value else []) if isinstance(value, (list, tuple)) else []


def _flat(value):
    return [x for item in value for x in _flat(item)] if isinstance(value, (list, tuple)) else [value]


def _tensor(name, value):
    if hasattr(value, "dtype"):
        return {"name": name, "shape": list(value.shape), "datatype": _OIP[value.dtype.name], "data": value.ravel().tolist()}
    flat = _flat(value)
    kind = "BYTES" if any(isinstance(x, str) for x in flat) else "FP64"
    return {"name": name, "shape": _shape(value), "datatype": kind, "data": flat}


def _untensor(output):
    try:
        import numpy
    except ImportError:
        return output["data"]
    for name, kind in _OIP.items():
        if kind == output["datatype"]:
            return numpy.array(output["data"], dtype=name).reshape(output["shape"])
    return numpy.array(output["data"], dtype=object).reshape(output["shape"])


def _pack(code):
    """(zip as bytes, name of the script or None) of a script, a directory or a zip file. The same content
    gives the same bytes: sorted names, no times."""
    path = os.fspath(code)
    if os.path.isfile(path) and path.endswith(".zip"):
        with open(path, "rb") as f:
            return f.read(), None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if os.path.isdir(path):
            for directory, names, files in os.walk(path):
                names[:] = sorted(n for n in names if n != "__pycache__" and not n.startswith("."))
                for name in sorted(files):
                    full = os.path.join(directory, name)
                    _add(archive, full, os.path.relpath(full, path))
        else:
            _add(archive, path, os.path.basename(path))
    return buffer.getvalue(), None if os.path.isdir(path) else os.path.basename(path)


def _add(archive, path, name):
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    with open(path, "rb") as f:
        archive.writestr(info, f.read())
