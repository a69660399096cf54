"""The echo that Slipway serves in these benchmarks."""


def init():
    pass


def predict(text):
    return text
