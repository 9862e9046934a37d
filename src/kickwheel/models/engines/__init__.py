"""Model servers that we run, each a process of its own.

llamacpp        `kind: local`, a base and adapters beside it, on the CPU
vllm            `kind: vllm`, for GPUs: a server at a URL, or one that we start
vllm_models     models on such a server: the base, and adapters asked with our own prompt
vllm_server     the server: which adapters it has loaded; one of our own is kept alive
engine          a base being served: restarted when it dies, replaced when an adapter comes
process         one llama.cpp process: started, watched, ended with its parent
asked           a request as prompt and grammar, and a text as an answer: the same for both
follow          a model that follows a ref
adapters        an adapter's files, and whether they fit a base
llamacpp_child  what runs in the process of llama.cpp
vllm_process    the process of a vLLM server of our own
guard           runs any other command so that it ends with its parent

`open_engine` serves a base without an app.
"""

from kickwheel.models.engines.engine import Engine, open_engine
from kickwheel.models.engines.llamacpp import LocalModel

__all__ = ["Engine", "LocalModel", "open_engine"]
