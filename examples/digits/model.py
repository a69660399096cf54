"""Serves what train.py learned: 64 numbers from 0 to 16 in, a digit and its probabilities out."""

import json
import os

import numpy as np

weights = {}


def init():
    # Serving needs no package of ours: safetensors is a header and raw arrays.
    with open(os.environ["SLIPWAY_WEIGHTS"], "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    for name, row in header.items():
        if name != "__metadata__":
            begin, end = row["data_offsets"]
            weights[name] = np.frombuffer(data[begin:end], np.float32).reshape(row["shape"])


def probabilities(pixels):
    x = pixels.reshape(-1, 64).astype(np.float32) / 16.0
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    scores = hidden @ weights["w2"] + weights["b2"]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def predict(text):
    pixels = np.array(json.loads(text), np.float32)
    if pixels.size != 64:
        raise ValueError(f"expected 64 numbers (8 x 8 pixels, 0 to 16), got {pixels.size}")
    p = probabilities(pixels)[0]
    return json.dumps({"digit": int(p.argmax()), "probability": round(float(p.max()), 4)})


def predict_tensors(inputs):
    return {"probabilities": probabilities(inputs["pixels"])}
