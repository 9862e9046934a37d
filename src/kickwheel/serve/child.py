"""What runs in the process of a fine-tuning job: `python -m kickwheel.serve.child`.

On standard input comes one line with the runner and the job, and then nothing until the server
dies, however it does: this process ends with it. Standard output carries a JSON line an event; all
else that is printed goes to standard error, which is the job's log.
"""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from kickwheel.core.errors import KickwheelError
from kickwheel.records import wire
from kickwheel.serve.job import JobEvent, JobSpec

BETWEEN_METRICS_S = 1.0


def main() -> None:
    """Runs one job and tells how it went; exits with 0 when it could be told."""
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_the_server, daemon=True).start()
    os.nice(5)

    def say(line: Mapping[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")

    try:
        module, _, name = order["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        spec = wire.from_plain(order["job"], JobSpec)
        say({"finished": function(spec, _Telling(say), **order["given"])})
    except KickwheelError as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        say({"failed": f"{error}{notes}"})
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        say({"failed": f"{type(error).__name__}: {error}"})
    out.flush()
    # Threads of a training library that still run would hold the process back.
    sys.stderr.flush()
    os._exit(0)


class _Telling:
    """Takes events, and lets at most one metrics event a second through."""

    def __init__(self, say: Any) -> None:
        self._say = say
        self._last = 0.0

    def __call__(self, event: JobEvent) -> None:
        if event.type == "metrics":
            now = time.monotonic()
            if now - self._last < BETWEEN_METRICS_S:
                return
            self._last = now
        self._say({"event": wire.to_plain(event)})


def _die_with_the_server() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
