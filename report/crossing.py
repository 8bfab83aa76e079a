# SPDX-License-Identifier: Apache-2.0
"""Where attention in host memory stops paying beside a GPU: how many new tokens a step make moving the cache worth while. What
bench/offload prints and what the report draws."""

import dataclasses
import math

# How keys and values come to the GPU: what of a result counts. A cache that is copied while the GPU attends another part of it
# takes at least the longer of the two.
MOVING = {"one after the other": lambda at: at.get("gpu-moved"),
          "at best at once": lambda at: max(at["gpu-copied"], at["gpu-resident"]) if {"gpu-copied", "gpu-resident"} <= at.keys() else None}


@dataclasses.dataclass
class Crossing:
    """Up to `before` new tokens attend is as fast or faster, from `after` on the GPU is; None where that is never so."""

    threads: int
    moving: str
    before: int
    after: int
    between: float  # where straight lines through the logarithms meet

    @property
    def text(self):
        """What becomes of "moving the cache ..."."""
        if self.after is None:
            return f"does not pay up to {self.before} new tokens a step"
        if self.before is None:
            return f"pays from {self.after} new token{'s' * (self.after != 1)} a step on"
        return f"pays from between {self.before} and {self.after} new tokens a step on (about {self.between:.0f})"

    @property
    def sentence(self):
        return f"Copied and attended {self.moving}, moving the cache {self.text}, beside attend on {self.threads} thread{'s' * (self.threads != 1)}."


def by_tokens(results):
    """{new tokens: {way: seconds}} and the same of attend by threads, of the results of kind "tokens" that were measured."""
    gpu, attend = {}, {}
    for result in results:
        if result["kind"] == "tokens" and "seconds" in result:
            if result["way"] == "attend":
                attend.setdefault(result["threads"], {})[result["tokens"]] = result["seconds"]
            else:
                gpu.setdefault(result["tokens"], {})[result["way"]] = result["seconds"]
    return gpu, attend


def cross(ours, theirs, threads, moving):
    """Of {new tokens: seconds}: the last change of who is ahead, so that one disturbed measurement before it does not count."""
    tokens = sorted(ours.keys() & theirs.keys())
    if not tokens:
        return None
    ahead = [n for n in tokens if ours[n] <= theirs[n]]
    before = max(ahead, default=None)
    after = min((n for n in tokens if before is None or n > before), default=None)
    between = None
    if before is not None and after is not None:
        lead, lag = math.log(theirs[before] / ours[before]), math.log(ours[after] / theirs[after])
        between = before * (after / before) ** (lead / (lead + lag))
    return Crossing(threads, moving, before, after, between)


def crossings(results):
    gpu, attend = by_tokens(results)
    found = []
    for moving, seconds in MOVING.items():
        theirs = {n: each for n, at in gpu.items() if (each := seconds(at)) is not None}
        found += [cross(attend[threads], theirs, threads, moving) for threads in sorted(attend)]
    return [each for each in found if each]
