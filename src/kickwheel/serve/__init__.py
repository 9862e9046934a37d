"""The front door: what callers reach over HTTP.

server     one ASGI app, its limits and its ids, and the process around it
serving    the same inside a program of one's own
openai     /v1/chat/completions and /v1/models
request    a chat request, read and checked
responses  /v1/responses, and those that are kept
completions  /v1/completions, the older protocol
embeddings /v1/embeddings
answering  a question of a client to what answers, whatever the protocol
outgoing   an answer on its way to the client, whole or in events
contract   /openapi.json: what all routes take and give
files      /v1/files
jobs       /v1/fine_tuning/jobs: asked for, looked at, stopped
customization  /v1/customization/jobs, the same jobs as NeMo asks for them
worker     the one job that runs, in a process of its own
child      what runs in that process
training   a training file, checked line by line
job        a job as it is kept
listing    lists in pages
traces     /v1/traces, read level by level, and feedback
runs       /v1/runs: how they stand, a person's answer, their end
otlp       /v1/traces, as OTLP
recorded   /t/<project>/v1: passed on to another server, and noted
auth       who may come in
tokens     who shows a token of an authorization server
issuer     that server's public keys
health     /v1/health/live and /ready
doors      what is open beside OpenAI's protocol:
mcp        /mcp, for programs that use tools
a2a        /a2a/<agent>, for agents of others
contracts  /v1/metadata and /v1/version, as a NIM answers them
metrics    /v1/metrics, for Prometheus
pictures   pictures that callers send
workers    one server in several processes
house      what the front door needs to know of the app behind it
opened     that, for an app that is open; `seen`, as one caller sees it
peft       adapters that others lay into the folder of NIM_PEFT_SOURCE
tuning     what a job does: the tuning of `kickwheel tune`
errors     errors as OpenAI's clients read them

It knows models only by `models.chat`: agents, bases and adapters look alike from here.
"""
