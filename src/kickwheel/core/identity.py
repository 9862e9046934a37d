"""Ids of what comes by the thousand a second: spans, traces, runs.

They must differ, not be hard to guess: whoever may use one showed a key before. So they come from a
generator in the process, seeded by the system, and cost no call of it (decision 15).
"""

import os
import random

_random = random.Random(os.urandom(32))
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def fresh(size: int) -> str:
    """`size` random bytes as hex digits, different each time, also in forks of this process."""
    return f"{_random.getrandbits(8 * size):0{2 * size}x}"
