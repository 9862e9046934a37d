"""The GenAI conventions as they were, and what grew around them.

gen_ai.prompt.0.role, gen_ai.completion.0.content    Traceloop's OpenLLMetry
gen_ai.prompt, gen_ai.completion                     LangSmith: the whole as JSON
gen_ai.system                                        now gen_ai.provider.name
gen_ai.user.message, gen_ai.choice, …                events, one a message (1.27 to 1.36); its
                                                     body may be JSON in gen_ai.event.content
gen_ai.content.prompt, gen_ai.content.completion     events with the whole (before 1.27)
traceloop.span.kind, traceloop.entity.input, …       workflows, tasks, tools
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kickwheel.records import SpanKind, genai
from kickwheel.trace.forms.form import loaded
from kickwheel.trace.openinference import nested
from kickwheel.trace.otlp import langchain, parts
from kickwheel.trace.otlp.observed import Event, Observed
from kickwheel.trace.otlp.understood import Understood

_PROMPT, _COMPLETION = "gen_ai.prompt", "gen_ai.completion"
_FUNCTIONS = "llm.request.functions"
_ENTITY = "traceloop.entity"
_ALL = "pydantic_ai.all_messages"
_BODY = "gen_ai.event.content"
_REASON = "gen_ai.response.finish_reason"
_KINDS: dict[str, SpanKind] = {
    "workflow": "step",
    "task": "step",
    "agent": "agent",
    "tool": "tool",
    "chat": "model",
    "completion": "model",
    "llm": "model",
    "retriever": "retrieval",
    "embedding": "model",
    "chain": "step",
    "prompt": "step",
    "parser": "step",
}
"""By `traceloop.span.kind`, `llm.request.type` and `langsmith.span.kind`."""
_RENAMED = {
    "gen_ai.system": genai.PROVIDER,
    "gen_ai.usage.prompt_tokens": genai.INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": genai.OUTPUT_TOKENS,
    "gen_ai.usage.cache_read_input_tokens": genai.CACHED_TOKENS,
    "gen_ai.usage.cache_creation_input_tokens": genai.CACHE_WRITTEN_TOKENS,
    "gen_ai.openai.request.seed": genai.SEED,
}
_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}


def understand(span: Observed, found: Understood) -> None:
    """Adds what the span says in these names."""
    told = span.attributes
    kind = next(
        (
            _KINDS[str(told[name]).lower()]
            for name in ("traceloop.span.kind", "langsmith.span.kind", "llm.request.type")
            if str(told.get(name)).lower() in _KINDS
        ),
        None,
    )
    spread = _spread(told, _PROMPT)
    answers = _spread(told, _COMPLETION)
    if kind is None and (spread or answers or "gen_ai.system" in told):
        kind = "model" if genai.REQUEST_MODEL in told or spread else None
    model = told.get(genai.REQUEST_MODEL) if kind == "model" else None
    found.called(kind, told.get("traceloop.entity.name") or model)
    asked, answered = (langchain.unwrapped(told.get(name)) for name in (_PROMPT, _COMPLETION))
    if found.kind == "tool":
        found.ran(
            told.get(genai.TOOL_CALL_ID),
            found.name,
            told.get(f"{_ENTITY}.input", asked),
            told.get(f"{_ENTITY}.output", _content(answered)),
        )
    found.asked(_said(spread) or asked)
    found.answered(_said(answers) or answered)
    reasons = [
        *_reasons(answers),
        *langchain.reasons(told.get(_COMPLETION)),
        *_named(told.get(_REASON)),
    ]
    found.reasons = found.reasons or tuple(reasons)
    found.offered(_spread(told, _FUNCTIONS))
    _read_events(span.events, found)
    found.asked(told.get(f"{_ENTITY}.input"))
    found.answered(told.get(f"{_ENTITY}.output"))
    _read_all(told.get(_ALL), found)
    found.tell({name: told.get(old) for old, name in _RENAMED.items()})
    found.use(told, (_PROMPT, _COMPLETION, _FUNCTIONS, *_RENAMED))
    found.used.update((f"{_ENTITY}.input", f"{_ENTITY}.output", _ALL, _REASON))


def _spread(told: Mapping[str, Any], prefix: str) -> Any:
    """The list that is spread below the prefix; `None` where nothing is."""
    start = prefix + "."
    below = {"it." + n[len(start) :]: value for n, value in told.items() if n.startswith(start)}
    return nested(below).get("it")


def _said(spread: object) -> list[dict[str, Any]] | None:
    """Messages as OpenAI writes them."""
    if not isinstance(spread, list):
        return None
    messages = []
    for entry in spread:
        if isinstance(entry, Mapping):
            message = dict(entry)
            message.setdefault("content", None)
            if isinstance(message.get("tool_calls"), list):
                message["tool_calls"] = [
                    {"arguments": "{}", **call}
                    for call in message["tool_calls"]
                    if isinstance(call, Mapping)
                ]
            messages.append(message)
    return messages


def _reasons(answers: object) -> Iterator[str]:
    for entry in answers if isinstance(answers, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("finish_reason"), str):
            yield entry["finish_reason"]


def _named(reasons: object) -> Iterator[str]:
    """Reasons in one text, as Semantic Kernel writes its own: `FinishReason.STOP`."""
    for reason in reasons.split(",") if isinstance(reasons, str) else ():
        yield reason.rpartition(".")[2].lower()


def _read_events(events: tuple[Event, ...], found: Understood) -> None:
    asked: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    reasons: list[str] = []
    for event in events:
        told = event.attributes
        if event.name in _EVENTS:
            asked.append({"role": _EVENTS[event.name], **_body(told)})
        elif event.name == "gen_ai.choice":
            body = _body(told)
            message = body.get("message", body)
            inner = message if isinstance(message, Mapping) else {"content": message}
            answered.append({"role": "assistant", "content": None, **inner})
            if isinstance(body.get("finish_reason"), str):
                reasons.append(body["finish_reason"])
        elif event.name == "gen_ai.content.prompt":
            found.asked(told.get(_PROMPT))
        elif event.name == "gen_ai.content.completion":
            found.answered(told.get(_COMPLETION))
    if found.kind == "tool":
        given, came = ((said or [{}])[-1] for said in (asked, answered))
        identity = given.get("id", came.get("id"))
        found.ran(identity, found.name, given.get("content"), came.get("content"))
        return
    if asked:
        found.asked(asked)
    if answered:
        found.answered(answered)
        found.reasons = found.reasons or tuple(reasons)


def _content(answered: object) -> object:
    """A tool's result out of the message that holds it."""
    said = answered.get("content") if isinstance(answered, Mapping) else None
    return answered if said is None else said


def _read_all(value: object, found: Understood) -> None:
    """The last answer is what came back, all before it what came in."""
    said = parts.said(value, "user").messages if value is not None else ()
    if said and said[-1].role == "assistant":
        found.input = found.input or said[:-1]
        found.output = found.output or said[-1:]


def _body(told: Mapping[str, Any]) -> dict[str, Any]:
    """An event's message, whose parts may be JSON; an `id` is the call's that it answers."""
    whole = loaded(told.get(_BODY))
    body = {name: loaded(v) for name, v in (whole if isinstance(whole, Mapping) else told).items()}
    if isinstance(body.get("content"), Mapping):
        body["content"] = parts.arguments(body["content"])
    if "id" in body:
        body.setdefault("tool_call_id", body["id"])
    body.setdefault("content", None)
    return body
