"""A run that opens its dataset and reads it: what each step takes, in s, as a line of JSON."""

import json
import time

import numpy
import slipway

begin = time.perf_counter()
array = slipway.dataset("big")["x"]
there = time.perf_counter()
total = float(numpy.add.reduce(array, dtype="float64"))
summed = time.perf_counter()
print(json.dumps({"open": there - begin, "sum": summed - there, "bytes": array.nbytes, "total": total}))
