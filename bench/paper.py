"""The two figures of the published measurement (M. Rovnyagin et al., 2020) at 10,000 requests a second, by
`slipway bench paper`: what reaches the model over the probability of a bad token, and token requests over the
tokens' time to live. Each point must lie in the interval that queueing theory predicts, all of a figure together
with a confidence of 0.999: with that of the paper, 0.95, every tenth run would find a point outside where all is well.
The page with both figures is build/bench/paper.html.

About 2 minutes.

usage: paper.py [--quick]
"""

import json
import os
import subprocess
import sys

from common import QUICK, ROOT, SLIPWAY, Daemon, Report, say, serve_echo

POINTS = ["--bad-tokens", "0,0.5,1", "--ttls", "1,3"] if QUICK else []
SHORT = {"Figure 5": "reach the model, bad tokens", "Figure 6": "token requests, TTL in s"}
SECONDS = 3 if QUICK else 6


def main():
    report = Report("paper", "Token checks against theory: a Poisson flow of 10,000/s")
    directory = os.path.join(ROOT, "build", "bench")
    os.makedirs(directory, exist_ok=True)
    with Daemon() as daemon:
        serve_echo(daemon)
        say("measuring the points of both figures")
        done = subprocess.run([SLIPWAY, "--data", daemon.directory, "bench", "paper", "echo", "--time", f"{SECONDS}s",
                               "--confidence", "0.999",
                               "--report", os.path.join(directory, "paper.html"), "--json", *POINTS],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    if done.returncode > 1:
        raise SystemExit(f"slipway bench paper ended with {done.returncode}")
    for figure in json.loads(done.stdout)["figures"]:
        for point in figure["points"]:
            report.add(f"{SHORT[figure['name']]} {point['x']:g}, n = {point['n']:,}, {point['needed']:,} needed",
                       point["measured"], "/s", f"{point['low']:,.1f} to {point['high']:,.1f}", point["inside"])  # fmt: skip
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
