"""The process that a base is served from: xllamacpp's server on a free port of the loopback.

`python llamacpp_child.py PARENT` reads its settings as one line of JSON from standard input,
answers with one line, `{"url": …}` or `{"error": …}`, and serves until standard input ends. That
pipe is held by the parent alone, so it ends however the parent dies; the kernel is asked for the
same, for the time in which a model loads and nobody reads the pipe.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serves until the parent goes."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It died before the kernel was asked.
    # Ctrl-C goes to the whole group, and systemd's SIGTERM to the whole unit; the parent stops us
    # when its streams have ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    # llama.cpp may print to standard output: the answer gets a pipe of its own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        server = _server(settings)
        answer = {"url": server.listening_address}
    except Exception as error:
        server, answer = None, {"error": str(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    if server is None:
        os._exit(1)
    threading.Event().wait()


def _end_with_parent() -> None:
    while sys.stdin.readline():
        pass
    # Nothing here is worth tearing down in order: files are only read.
    os._exit(0)


def _server(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.cors_origins = "null"
    params.ui = False
    params.n_ctx = settings["context"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = settings["gpu_layers"]
    params.verbosity = 1
    # The first request warms up as well, and a new adapter is awaited.
    params.warmup = False
    # Fitting layers to a GPU's memory reads the file once more.
    params.fit_params = any("GPU" in str(d["type"]) for d in xllamacpp.get_device_info())
    # Copies of other prompts' state: slots keep their own, and a small model reads faster than it
    # copies.
    params.cache_ram_mib = 0
    params.endpoint_slots = True
    params.lora_init_without_apply = True
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in settings["adapters"]
    ]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
