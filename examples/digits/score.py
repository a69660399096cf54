"""Sends the whole held-out split to the served model, one digit a request, and draws a few answers.

usage: score.py EXPORTED.safetensors ENDPOINT     (SLIPWAY_SERVE_URL, SLIPWAY_TOKEN)
"""

import concurrent.futures
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "sdk", "python"))
from slipway import Client, read_safetensors  # noqa: E402

SHADES = " .:-=+*#%@"


def draw(pixels):
    """Eight lines of two characters a pixel."""
    return ["".join(SHADES[min(int(v) * 9 // 16, 9)] * 2 for v in pixels[r * 8 : r * 8 + 8]) for r in range(8)]


def main():
    data = read_safetensors(sys.argv[1])
    endpoint = sys.argv[2]
    pixels, labels = data["test/x"].tolist(), data["test/y"].tolist()
    client = Client()

    def ask(row):
        return json.loads(client.predict(endpoint, json.dumps(row)))["digit"]

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, pixels))
    seconds = time.monotonic() - start

    right = sum(int(a) == int(b) for a, b in zip(answers, labels))
    wrong = [i for i, (a, b) in enumerate(zip(answers, labels)) if int(a) != int(b)]
    shown = [i for i in range(len(labels)) if i not in wrong][:4] + wrong[:1]
    pictures = [draw(pixels[i]) for i in shown]
    print()
    for line in range(8):
        print("  " + " | ".join(picture[line] for picture in pictures))
    marks = []
    for i in shown:
        mark = "right" if int(answers[i]) == int(labels[i]) else f"is a {int(labels[i])}"
        marks.append(f"says {answers[i]}: {mark}".ljust(16))
    print("  " + " | ".join(marks))
    print()
    print(f"{right} of {len(labels)} held-out digits right over HTTP: accuracy {right / len(labels):.4f}, "
          f"{len(labels) / seconds:.0f} requests/s from Python with 4 connections")
    return 0 if right / len(labels) >= float(os.environ.get("LEAST_ACCURACY", "0")) else 1


if __name__ == "__main__":
    sys.exit(main())
