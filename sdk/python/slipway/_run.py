"""The run contract as functions: what a training script needs, with no network and no daemon.

The files are below /slipway in a container; where there is no container, SLIPWAY_DIR says where.
Outside of any run they are below ./slipway-run, so that a script can be tried at a desk.
"""

import json
import os
import sys
import threading

from ._safetensors import TensorFile, write_safetensors

_lock = threading.Lock()
_metrics = None
_saved = 0


def _inside():
    return bool(os.environ.get("SLIPWAY_RUN_ID"))


def _path(*parts):
    root = os.environ.get("SLIPWAY_DIR") or ("/slipway" if _inside() else "slipway-run")
    return os.path.join(root, *parts)


def run_id():
    """The id of this run, or None outside of one."""
    return os.environ.get("SLIPWAY_RUN_ID")


class _Params(dict):
    """Parameters of the run: `params["rate"]`, `params.get("rate", 0.1)` or `params.rate`."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no parameter {name!r}; there are: {', '.join(self) or 'none'}") from None


def _load_params():
    try:
        with open(_path("params.json"), encoding="utf-8") as f:
            return _Params(json.load(f))
    except FileNotFoundError:
        pass
    params = _Params()
    for key, text in os.environ.items():
        if key.startswith("SLIPWAY_PARAM_"):
            try:
                params[key[14:].lower()] = json.loads(text)
            except ValueError:
                params[key[14:].lower()] = text
    return params


params = _load_params()


class Dataset:
    """A dataset: `ds["train/x"]` is a tensor without a copy, `ds.path("labels.txt")` a file.

    `ds.schema` is what the import found out: columns, categories, statistics. `ds.train` and `ds.test`
    are views of one split with its prefix taken off: `ds.train["x"]`, also `ds.train.x`.
    """

    def __init__(self, directory, prefix="", file=None):
        self.directory = directory
        self._prefix = prefix
        tensors = os.path.join(directory, "data.safetensors")
        self._file = file or (TensorFile(tensors) if os.path.exists(tensors) else None)

    @property
    def schema(self):
        text = self._file.metadata.get("schema") if self._file else None
        return json.loads(text) if text else None

    def keys(self):
        names = self._file.keys() if self._file else []
        return [name[len(self._prefix) :] for name in names if name.startswith(self._prefix)]

    def __iter__(self):
        return iter(self.keys())

    def __contains__(self, name):
        return self._file is not None and self._prefix + name in self._file

    def __getitem__(self, name):
        if self._file is None:
            raise KeyError(f"dataset in {self.directory} has files only: {', '.join(self.files())}")
        return self._file[self._prefix + name]

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self:
            return self[name]
        prefix = f"{self._prefix}{name}/"
        if self._file is not None and any(key.startswith(prefix) for key in self._file):
            return Dataset(self.directory, prefix, self._file)
        raise AttributeError(f"no tensor or split {name!r}; there are: {', '.join(self.keys())}")

    def files(self):
        return sorted(os.listdir(self.directory))

    def path(self, name):
        return os.path.join(self.directory, name)


def datasets():
    """Names of the datasets of this run."""
    try:
        return sorted(os.listdir(_path("data")))
    except FileNotFoundError:
        return []


def dataset(name=None):
    """A dataset of this run by name; without a name the only one."""
    names = datasets()
    if name is None:
        if len(names) != 1:
            raise ValueError(f"say which dataset: there are {', '.join(names) or 'none'}")
        name = names[0]
    if name not in names:
        raise KeyError(f"no dataset {name!r} in this run; there are: {', '.join(names) or 'none'}")
    return Dataset(_path("data", name))


def _number(value):
    if hasattr(value, "item"):  # numpy and torch scalars
        value = value.item()
    return value


def log(step=None, **metrics):
    """Appends one line of metrics: `log(step=3, loss=0.5, accuracy=0.9)`. Thread-safe."""
    global _metrics
    row = {} if step is None else {"step": _number(step)}
    row.update((key, _number(value)) for key, value in metrics.items())
    line = json.dumps(row) + "\n"
    with _lock:
        if _metrics is None:
            os.makedirs(_path(), exist_ok=True) if not _inside() else None
            _metrics = open(_path("metrics.jsonl"), "ab", buffering=0)
        _metrics.write(line.encode())  # one write() a line: never interleaved, never half
        if not _inside():
            sys.stdout.write(line)


def save_weights(tensors, name=None, metadata=None):
    """Writes {name: array} as the next generation of weights and returns its path.

    The file appears whole or not at all: it is written beside and renamed when it is on disk."""
    global _saved
    with _lock:
        _saved += 1
        number = _saved
    directory = _path("weights")
    if not _inside():
        os.makedirs(directory, exist_ok=True)
    final = os.path.join(directory, (name or f"generation-{number:06d}") + ".safetensors")
    temporary = os.path.join(directory, f".{os.path.basename(final)}.{os.getpid()}.tmp")
    try:
        write_safetensors(temporary, tensors, metadata)
        os.rename(temporary, final)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
    return final


def load_weights(path=None):
    """Weights as a TensorFile: of a path, else $SLIPWAY_WEIGHTS (in a served model)."""
    path = path or os.environ.get("SLIPWAY_WEIGHTS")
    if not path:
        raise ValueError("no path given and SLIPWAY_WEIGHTS is not set")
    return TensorFile(path)


def resume():
    """The last generation of an earlier attempt as a TensorFile, or None at a first start."""
    directory = _path("resume")
    try:
        names = sorted(n for n in os.listdir(directory) if n.endswith(".safetensors"))
    except FileNotFoundError:
        return None
    return TensorFile(os.path.join(directory, names[-1])) if names else None


def output_path(name):
    """A path for an artifact that is kept when the run ends."""
    directory = _path("out")
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, name)
