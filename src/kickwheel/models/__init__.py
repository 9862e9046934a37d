"""What answers a prompt.

chat     what is asked of a model and what comes back
observed the same, noted in the trace
client   `kind: openai`, anything that speaks OpenAI's protocol
engines  model servers that we run: `local` (llama.cpp), `vllm`
answer   a streamed answer in OpenAI's protocol, read (`sse`: its events)
catalog  base models by name: got, checked, kept (`gguf`, `checkpoint`: their files)
prompt   a conversation as the text that a model reads
calls    calls as text, and grammars that allow no other
embedding texts as vectors, where the package for it is there

A model knows neither tools nor agents. New kind: one file, one entry point, one page in docs.
"""
