"""Slipway for Python: datasets, parameters, metrics and weights inside a run, and a client.

Nothing here needs the network or the client: the run contract is files (see RUN_CONTRACT.md), and
this module only spares the typing.
"""

from ._client import Client, SlipwayError
from ._run import (
    Dataset,
    dataset,
    datasets,
    load_weights,
    log,
    output_path,
    params,
    resume,
    run_id,
    save_weights,
)
from ._safetensors import TensorFile, read_safetensors, write_safetensors

__all__ = [
    "Client",
    "Dataset",
    "SlipwayError",
    "TensorFile",
    "dataset",
    "datasets",
    "load_weights",
    "log",
    "output_path",
    "params",
    "read_safetensors",
    "resume",
    "run_id",
    "save_weights",
    "write_safetensors",
]
__version__ = "0.1.0"
