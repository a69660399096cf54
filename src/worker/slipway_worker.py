"""Serves a Python model package: python3 slipway_worker.py [DIRECTORY]

DIRECTORY (default: the working directory) holds model.py with init() and one or more of predict(text),
predict_batch(texts) and predict_tensors(inputs) with a dict of NumPy arrays; perhaps warmup(). The gateway's socket, the
replica's id and its key come from the environment. Only the standard library is needed; NumPy for tensors.
What is not needed by every model is imported where it is: a request may be waiting for this process to start.
"""

import ctypes
import os
import signal
import struct
import sys

ASK_COMPLAINT, ASK_TENSORS, ASK_BATCH = 0, 2, 3  # python.c has the same
CAN_PREDICT, CAN_TENSORS, CAN_BATCH = 1, 2, 4
FAILED, INVALID, UNSUPPORTED = 1, 2, 5

# format/frame.h
HEADER = struct.Struct("<II")
ENTRY = struct.Struct("<128sII8qQQ")
MAGIC = 0x31465753
BYTES = 12
TYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


class InvalidInput(ValueError):
    """The request does not fit the model."""


class Unsupported(Exception):
    """The package lacks what the request needs."""


class Library:
    def __init__(self, directory):
        path = os.path.join(directory, "libslipway-worker.so")
        self.lib = ctypes.CDLL(path)
        self.python = ctypes.PyDLL(path)  # calls with the interpreter's lock held
        self.lib.slipway_worker_open.restype = ctypes.c_void_p
        self.lib.slipway_worker_open.argtypes = [ctypes.c_char_p]
        self.lib.slipway_worker_error.restype = ctypes.c_char_p
        self.lib.slipway_worker_error.argtypes = [ctypes.c_void_p]
        self.lib.slipway_worker_hello.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32]
        self.lib.slipway_worker_ready.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self.lib.slipway_worker_failed.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.lib.slipway_worker_stop.argtypes = [ctypes.c_void_p]
        self.lib.slipway_worker_signal_fd.argtypes = [ctypes.c_void_p]
        self.lib.slipway_worker_close.argtypes = [ctypes.c_void_p]
        self.python.slipway_worker_run_python.argtypes = [ctypes.c_void_p] + [ctypes.py_object] * 3


class Model:
    """The functions of model.py, and what follows from them for requests of all kinds. Frames of tensors become arrays and
    back; without NumPy, BYTES tensors are all there is."""

    def __init__(self, model):
        self.predict_tensors = getattr(model, "predict_tensors", None)
        self.predict_batch = getattr(model, "predict_batch", None)
        self.predict = getattr(model, "predict", None) or self.predict_alone
        self.numpy = None
        if self.predict_tensors:
            try:
                import numpy
            except ImportError:
                return
            self.numpy = numpy

    def functions(self):
        return (
            (CAN_PREDICT if self.predict != self.predict_alone or self.predict_batch else 0)
            | (CAN_TENSORS if self.predict_tensors and self.numpy else 0)
            | (CAN_BATCH if self.predict_batch else 0)
        )

    def answer(self, ask, value):
        if ask == ASK_BATCH:
            return self.batch(value)
        if ask == ASK_COMPLAINT:
            if isinstance(value, str):
                raise ValueError("predict() returned text that is not UTF-8: lone surrogates")
            raise TypeError(f"predict() returned {type(value).__name__}, not str")
        return self.tensors(value)

    def batch(self, texts):
        n = len(texts)
        answers = self.predict_batch(texts)
        if not isinstance(answers, (list, tuple)):
            raise TypeError(f"predict_batch() returned {type(answers).__name__}, not a list of str")
        if len(answers) != n:
            raise ValueError(f"predict_batch() returned {len(answers)} answers to {n} texts")
        for i, answer in enumerate(answers):
            if not isinstance(answer, str):
                raise TypeError(f"predict_batch() returned {type(answer).__name__}, not str, as answer {i + 1} of {n}")
        return answers

    def predict_alone(self, text):
        """For a package without predict()."""
        if not self.predict_batch:
            raise Unsupported("this model takes tensors: model.py defines no predict()")
        return self.batch([text])[0]

    def tensors(self, body):
        entries = self.read(body)
        if self.predict_tensors and self.numpy:
            inputs = {name: self.array(body, *entry) for name, *entry in entries}
            return self.write(self.arrays(self.predict_tensors(inputs)))
        return self.write(self.texts(body, entries))

    def read(self, body):
        magic, count = HEADER.unpack_from(body)
        if magic != MAGIC:
            raise InvalidInput("not a frame of tensors")
        entries = []
        for i in range(count):
            name, dtype, rank, *rest = ENTRY.unpack_from(body, HEADER.size + i * ENTRY.size)
            entries.append((name.rstrip(b"\0").decode(), dtype, tuple(rest[:rank]), rest[8], rest[9]))
        return entries

    def elements(self, body, offset, length):
        end, items = offset + length, []
        while offset < end:
            (n,) = struct.unpack_from("<I", body, offset)
            items.append(bytes(body[offset + 4 : offset + 4 + n]))
            offset += 4 + n
        return items

    def array(self, body, dtype, shape, offset, length):
        if dtype == BYTES:
            items = self.numpy.empty(len(elements := self.elements(body, offset, length)), object)
            items[:] = elements
            return items.reshape(shape)
        if not length:
            return self.numpy.empty(shape, TYPES[dtype])
        return self.numpy.frombuffer(body[offset : offset + length], TYPES[dtype]).reshape(shape)

    def texts(self, body, entries):
        """The elements of the one BYTES input, in one call where the model takes a batch."""
        if len(entries) != 1 or entries[0][1] != BYTES:
            raise Unsupported("this model takes text: one input of datatype BYTES")
        name, dtype, shape, offset, length = entries[0]
        texts = [item.decode() for item in self.elements(body, offset, length)]
        answers = self.batch(texts) if self.predict_batch and texts else map(self.predict, texts)
        return [("text", BYTES, shape, self.pack([answer.encode() for answer in answers]))]

    def pack(self, items):
        return b"".join(struct.pack("<I", len(item)) + item for item in items)

    def arrays(self, outputs):
        numpy = self.numpy
        if not isinstance(outputs, dict):
            raise TypeError(f"predict_tensors() returned {type(outputs).__name__}, not a dict of arrays")
        entries = []
        for name, value in outputs.items():
            value = numpy.asarray(value)
            if value.dtype.kind in "OSU":
                items = [x.encode() if isinstance(x, str) else bytes(x) for x in value.ravel().tolist()]
                entries.append((name, BYTES, value.shape, self.pack(items)))
                continue
            code = "?" if value.dtype.kind == "b" else value.dtype.kind + str(value.dtype.itemsize)
            if code not in TYPES:
                raise TypeError(f"predict_tensors() returned '{name}' of type {value.dtype}")
            value = numpy.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            entries.append((name, TYPES.index(code), value.shape, value.reshape(-1).view("u1")))
        return entries

    def write(self, entries):
        """The parts of a frame, for the library to put one behind the other."""
        offset = HEADER.size + ENTRY.size * len(entries)
        head, parts = [HEADER.pack(MAGIC, len(entries))], []
        for name, dtype, shape, data in entries:
            if len(shape) > 8 or len(name.encode()) > 127:
                raise TypeError(f"output '{name}' has too many dimensions or too long a name")
            padding = -offset % 64
            head.append(
                ENTRY.pack(name.encode(), dtype, len(shape), *shape, *([0] * (8 - len(shape))), offset + padding, len(data))
            )
            parts += [bytes(padding), data] if padding else [data]
            offset += padding + len(data)
        return [b"".join(head)] + parts


def show(exception):
    """To the log; not by the module traceback, which takes as long to import as all the rest."""
    sys.__excepthook__(type(exception), exception, exception.__traceback__)


def failed(exception):
    """What the client sees of an exception; the traceback goes to the log."""
    show(exception)
    sys.stderr.flush()
    status = INVALID if isinstance(exception, InvalidInput) else UNSUPPORTED if isinstance(exception, Unsupported) else FAILED
    return status, f"{type(exception).__name__}: {exception}"


def load(directory):
    sys.path.insert(0, directory)
    import model

    if not callable(getattr(model, "init", None)):
        raise AttributeError("model.py does not define init()")
    if not any(callable(getattr(model, name, None)) for name in ("predict", "predict_batch", "predict_tensors")):
        raise AttributeError("model.py does not define predict()")
    model.init()
    if callable(getattr(model, "warmup", None)):
        model.warmup()
    return model


def main():
    directory = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ".")
    library = Library(os.path.dirname(os.path.abspath(__file__)))
    lib, worker = library.lib, library.lib.slipway_worker_open(None)
    # The handler runs when the interpreter does; the descriptor wakes the library while it does not.
    signal.set_wakeup_fd(lib.slipway_worker_signal_fd(worker), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda number, frame: lib.slipway_worker_stop(worker))
    if lib.slipway_worker_hello(worker, b"python %d.%d.%d" % sys.version_info[:3], CAN_PREDICT, 1) < 0:
        print(lib.slipway_worker_error(worker).decode(), file=sys.stderr)
        return 1
    try:
        model = Model(load(directory))
    except BaseException as e:
        show(e)
        lib.slipway_worker_failed(worker, f"{type(e).__name__}: {e}".encode()[:1000])
        return 1
    lib.slipway_worker_ready(worker, model.functions())
    if library.python.slipway_worker_run_python(worker, model.predict, model.answer, failed) < 0:
        print(lib.slipway_worker_error(worker).decode(), file=sys.stderr)
        return 1
    lib.slipway_worker_close(worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
