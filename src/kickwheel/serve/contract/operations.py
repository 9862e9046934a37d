"""What is said of each route in /openapi.json, by method and path."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kickwheel.serve.completions import CompletionBody
from kickwheel.serve.contract import shapes
from kickwheel.serve.contract.shapes import Schema
from kickwheel.serve.customization import ORDERS, CustomizationBody
from kickwheel.serve.embeddings import EmbeddingBody
from kickwheel.serve.files import PURPOSES
from kickwheel.serve.jobs import JobBody
from kickwheel.serve.request import ChatBody
from kickwheel.serve.responses.request import ResponseBody
from kickwheel.serve.runs import AnswerBody
from kickwheel.serve.traces import FeedbackBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route."""

    does: str
    """What it does, in a few words."""
    takes: type | Schema | None = None
    """Its body: the class that reads it, or a JSON Schema."""
    takes_as: str = "application/json"
    gives: Schema = field(default_factory=dict)
    """Its answer."""
    gives_as: str = "application/json"
    gives_with: int = 200
    """The status of its answer."""
    refuses: Schema = field(default_factory=lambda: {"$ref": "#/components/schemas/Error"})
    """What it says instead; by default an error as OpenAI's clients read it."""
    streams: bool = False
    """Whether the answer may come as a stream of events."""
    query: Mapping[str, Schema] = field(default_factory=dict)
    """What may stand behind `?`."""


_ORDER = shapes.one_of("asc", "desc")


def _paged(most: int) -> Mapping[str, Schema]:
    return {"after": shapes.TEXT, "limit": _most(most), "order": _ORDER}


def _most(most: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most}


_FILE_FORM: Schema = {
    "type": "object",
    "properties": {
        "purpose": shapes.one_of(*PURPOSES),
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
    },
    "required": ["purpose", "file"],
}
_JOB = "/v1/fine_tuning/jobs/{identity}"
_RESPONSE = "/v1/responses/{identity}"
_TRACES = {"workload": shapes.TEXT, "tenant": shapes.TEXT}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/v1/health/live"): Operation(does="Whether the server runs", gives=shapes.HEALTH),
    ("GET", "/v1/health/ready"): Operation(does="Whether all can answer", gives=shapes.HEALTH),
    ("GET", "/v1/version"): Operation(does="Which version runs", gives=shapes.VERSION),
    ("GET", "/v1/metadata"): Operation(does="What runs, as a NIM says it", gives=shapes.METADATA),
    ("GET", "/v1/metrics"): Operation(
        does="Counts for Prometheus", gives={"type": "string"}, gives_as="text/plain"
    ),
    ("POST", "/v1/customization/jobs"): Operation(
        does="Tune a model, as NeMo asks for it",
        takes=CustomizationBody,
        gives=shapes.CUSTOMIZATION,
        gives_with=201,
    ),
    ("GET", "/v1/customization/jobs"): Operation(
        does="All tuning jobs, as NeMo lists them",
        gives=shapes.CUSTOMIZATIONS,
        query={
            "page": _most(1000),
            "page_size": _most(1000),
            "sort": shapes.one_of(*ORDERS),
            "filter[status]": shapes.TEXT,
            "filter[base_model]": shapes.TEXT,
        },
    ),
    ("GET", "/v1/customization/jobs/{identity}"): Operation(
        does="One tuning job", gives=shapes.CUSTOMIZATION
    ),
    ("GET", "/v1/customization/jobs/{identity}/status"): Operation(
        does="How far a tuning job is", gives=shapes.CUSTOMIZATION_STATUS
    ),
    ("POST", "/v1/customization/jobs/{identity}/cancel"): Operation(
        does="End a tuning job", gives=shapes.CUSTOMIZATION
    ),
    ("GET", "/openapi.json"): Operation(does="This document", gives={"type": "object"}),
    ("GET", "/v1/models"): Operation(does="All that answers", gives=shapes.MODELS),
    ("GET", "/v1/models/{name}"): Operation(does="One that answers", gives=shapes.MODEL),
    ("POST", "/v1/chat/completions"): Operation(
        does="Answer a conversation", takes=ChatBody, gives=shapes.CHAT, streams=True
    ),
    ("POST", "/v1/completions"): Operation(
        does="Go on with a text", takes=CompletionBody, gives=shapes.COMPLETION, streams=True
    ),
    ("POST", "/v1/embeddings"): Operation(
        does="Turn texts into vectors", takes=EmbeddingBody, gives=shapes.EMBEDDINGS
    ),
    ("POST", "/v1/responses"): Operation(
        does="Make a response", takes=ResponseBody, gives=shapes.RESPONSE, streams=True
    ),
    ("GET", _RESPONSE): Operation(
        does="A kept response",
        gives=shapes.RESPONSE,
        streams=True,
        query={"stream": shapes.FLAG, "starting_after": shapes.COUNT},
    ),
    ("DELETE", _RESPONSE): Operation(does="Forget a response", gives=shapes.deleted("response")),
    ("POST", f"{_RESPONSE}/cancel"): Operation(
        does="End a response in the background", gives=shapes.RESPONSE
    ),
    ("GET", f"{_RESPONSE}/input_items"): Operation(
        does="What a response was given", gives=shapes.page(shapes.ITEM), query=_paged(100)
    ),
    ("POST", "/v1/files"): Operation(
        does="Bring a training file",
        takes=_FILE_FORM,
        takes_as="multipart/form-data",
        gives=shapes.FILE,
    ),
    ("GET", "/v1/files"): Operation(
        does="All files",
        gives=shapes.page(shapes.FILE),
        query={"purpose": shapes.TEXT, **_paged(10_000)},
    ),
    ("GET", "/v1/files/{identity}"): Operation(does="A file", gives=shapes.FILE),
    ("GET", "/v1/files/{identity}/content"): Operation(
        does="What a file holds", gives_as="application/octet-stream"
    ),
    ("DELETE", "/v1/files/{identity}"): Operation(
        does="Forget a file", gives=shapes.deleted("file")
    ),
    ("POST", "/v1/fine_tuning/jobs"): Operation(
        does="Tune a model", takes=JobBody, gives=shapes.JOB
    ),
    ("GET", "/v1/fine_tuning/jobs"): Operation(
        does="All tuning jobs", gives=shapes.page(shapes.JOB), query=_paged(100)
    ),
    ("GET", _JOB): Operation(does="A tuning job", gives=shapes.JOB),
    ("GET", f"{_JOB}/events"): Operation(
        does="What happened in a job", gives=shapes.page(shapes.JOB_EVENT), query=_paged(100)
    ),
    ("GET", f"{_JOB}/checkpoints"): Operation(
        does="How far a job came", gives=shapes.page(shapes.CHECKPOINT), query=_paged(100)
    ),
    ("POST", f"{_JOB}/cancel"): Operation(does="End a job", gives=shapes.JOB),
    ("POST", f"{_JOB}/pause"): Operation(does="Let a job rest", gives=shapes.JOB),
    ("POST", f"{_JOB}/resume"): Operation(does="Go on with a job", gives=shapes.JOB),
    ("POST", "/v1/traces/{identity}/feedback"): Operation(
        does="Say what is wrong with an answer", takes=FeedbackBody, gives=shapes.FEEDBACK
    ),
    ("GET", "/v1/traces/{identity}"): Operation(
        does="A trace, a level of it at a time",
        gives={"type": "object"},
        query={"parent": shapes.TEXT, "after": shapes.TEXT, "limit": _most(1000)},
    ),
    ("GET", "/v1/traces"): Operation(
        does="Traces, newest first",
        gives={"type": "object"},
        query={**_TRACES, "after": shapes.TEXT, "limit": _most(1000)},
    ),
    ("GET", "/v1/traces/export"): Operation(
        does="Traces as OTLP, a line of JSON each", gives_as="application/x-ndjson", query=_TRACES
    ),
    ("POST", "/v1/traces"): Operation(
        does="Bring traces as OTLP", takes={"type": "object"}, gives={"type": "object"}, refuses={}
    ),
    ("GET", "/v1/runs"): Operation(
        does="Runs of agents",
        gives=shapes.RUNS,
        query={"limit": {"type": "integer", "minimum": 1, "maximum": 200}},
    ),
    ("GET", "/v1/runs/{identity}"): Operation(does="How a run stands", gives=shapes.RUN),
    ("POST", "/v1/runs/{identity}/answer"): Operation(
        does="Answer a run that asks", takes=AnswerBody, gives=shapes.RUN
    ),
    ("POST", "/v1/runs/{identity}/cancel"): Operation(does="End a run", gives=shapes.RUN),
    ("GET", "/mcp"): Operation(does="What an MCP server says of itself", streams=True, refuses={}),
    ("POST", "/mcp"): Operation(
        does="Agents, tools and documents by MCP",
        takes={"type": "object"},
        streams=True,
        refuses={},
    ),
    ("DELETE", "/mcp"): Operation(does="End an MCP session", refuses={}),
    ("GET", "/.well-known/oauth-protected-resource"): Operation(
        does="Whose tokens are taken here (RFC 9728)"
    ),
    ("GET", "/.well-known/oauth-protected-resource/mcp"): Operation(
        does="Whose tokens are taken at /mcp (RFC 9728)"
    ),
    ("GET", "/.well-known/agent-card.json"): Operation(does="The agent's A2A card", refuses={}),
    ("GET", "/a2a/{rest}"): Operation(does="An agent, by A2A's REST binding", refuses={}),
    ("POST", "/a2a/{rest}"): Operation(
        does="An agent, by A2A's bindings", takes={"type": "object"}, streams=True, refuses={}
    ),
}
