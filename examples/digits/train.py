"""Trains a small network on the 8x8 handwritten digits: one hidden layer, softmax, momentum.

Parameters: hidden (units, 32), rate (learning rate, 0.1), epochs (30), batch (64), seed (0).
The same parameters, data and machine give bit-identical weights.
"""

import os

# One thread: a sum in another order would not be the same sum. To be set before numpy is loaded.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import slipway  # noqa: E402


def scale(x):
    return x.reshape(len(x), -1).astype(np.float32) / 16.0


def forward(weights, x):
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    scores = hidden @ weights["w2"] + weights["b2"]
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores)
    return hidden, p / p.sum(axis=1, keepdims=True)


def evaluate(weights, x, y):
    _, p = forward(weights, x)
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-9)).mean()
    return float(loss), float((p.argmax(axis=1) == y).mean())


def main():
    params = slipway.params
    hidden, rate = int(params.get("hidden", 32)), float(params.get("rate", 0.1))
    epochs, batch = int(params.get("epochs", 30)), int(params.get("batch", 64))
    rng = np.random.default_rng(int(params.get("seed", 0)))

    digits = slipway.dataset()
    x, y = scale(digits["train/x"]), digits["train/y"].astype(np.int64)
    test_x, test_y = scale(digits["test/x"]), digits["test/y"].astype(np.int64)
    classes = int(y.max()) + 1
    print(f"{len(x)} digits to learn from, {len(test_x)} held out; {hidden} hidden units, {epochs} epochs")

    weights = {
        "w1": (rng.standard_normal((x.shape[1], hidden)) * np.sqrt(2 / x.shape[1])).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "w2": (rng.standard_normal((hidden, classes)) * np.sqrt(1 / hidden)).astype(np.float32),
        "b2": np.zeros(classes, np.float32),
    }
    speed = {name: np.zeros_like(w) for name, w in weights.items()}

    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            h, p = forward(weights, x[rows])
            p[np.arange(len(rows)), y[rows]] -= 1
            d2 = p / len(rows)
            d1 = (d2 @ weights["w2"].T) * (h > 0)
            gradients = {"w1": x[rows].T @ d1, "b1": d1.sum(axis=0), "w2": h.T @ d2, "b2": d2.sum(axis=0)}
            for name, gradient in gradients.items():
                speed[name] = 0.9 * speed[name] - rate * gradient
                weights[name] += speed[name].astype(np.float32)
        loss, _ = evaluate(weights, x, y)
        test_loss, accuracy = evaluate(weights, test_x, test_y)
        slipway.log(step=epoch, loss=loss, test_loss=test_loss, accuracy=accuracy)

    slipway.save_weights(weights)
    print(f"accuracy on the held-out digits: {accuracy:.4f}")


if __name__ == "__main__":
    main()
