"""What answers a prompt.

chat       what is asked of a model and what comes back
observed   the same, noted in the trace
caller     for whom it is asked
client     `kind: openai`, anything that speaks OpenAI's protocol (`wire`: requests to a server)
anthropic  `kind: anthropic` (`messages`: its protocol)
bedrock    `kind: bedrock` (`converse`: its protocol; `turns`: conversations as both want them)
policies   what stands between an agent and its models: fallback, hedged, budget, cache, coalesced
retry      what passes is asked again
prices     what tokens cost
engines    model servers that we run: `local` (llama.cpp), `vllm`
answer     an answer in OpenAI's protocol, read (`sse`: its events; `chunk`: what they say)
catalog    base models by name: got, checked, kept (`wheel`, `gguf`, `checkpoint`,
           `peft`: their files)
prompt     a conversation as the text that a model reads
calls      calls as text, and grammars that allow no other
arguments  schemas of tools as every provider takes them; `closed` where objects are closed
pictures   pictures in a conversation
stops      where an answer ends
taken      what a model refuses, left out from then on
sent       a request as it would be sent, without asking
embedding  texts as vectors, where the package for it is there; `vectors` is `kind: embedding`

A model knows neither tools nor agents. New kind: one file, one entry point, one page in docs.
"""
