"""/v1/completions, the older protocol: a text in, what follows on it out.

A model whose engine goes on with plain text (`models.chat.Continuing`) gets the prompt as it is.
To an agent a prompt is a question: a conversation of one message. Other models are refused, since a
chat that begins with the prompt would be something else.
"""

import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
from msgspec import structs
from starlette.requests import Request
from starlette.routing import Route

from kickwheel.core.identity import fresh
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Continuing, Delta, Done, TextDelta, Usage
from kickwheel.records import Message
from kickwheel.serve import outgoing
from kickwheel.serve.answering import Answering, Question, unless_left
from kickwheel.serve.errors import Refused, refusal
from kickwheel.serve.openai import usage_to_openai
from kickwheel.serve.outgoing import Outgoing, Send, Told
from kickwheel.serve.request import fields, mistake, number, texts

PATH = "/v1/completions"
MAX_TOKENS = 16
"""Tokens of an answer where the request does not say; as OpenAI has it."""
PROMPTS = 128
"""Prompts in one request at most."""
_COMPLETION_ID = "cmpl-"
_ONLY = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "logprobs": (None, 0),
    "suffix": (None, ""),
}
"""What is not done here, by the values that ask for nothing."""


class CompletionBody(msgspec.Struct):
    """The fields of a request that we understand; others are passed on to the model."""

    model: str
    prompt: Any
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None

    def prompts(self) -> list[str]:
        """The texts to go on with.

        Raises:
            Refused: there are none, or they are tokens (400).
        """
        return texts("prompt", self.prompt, PROMPTS)


def completion_routes(answering: Answering) -> list[Route]:
    """The route of /v1/completions."""
    return [Route(PATH, _Create(answering), methods=["POST"])]


class _Create:
    """The route: an ASGI app, since it writes its answer itself."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        request = Request(scope, receive)
        asked, wanted = _read(await request.body())
        model = await self._answering.model(asked.model, request.state.project)
        if await self._answering.kind(asked.model) == "agent":
            continuing = None
        elif hasattr(model, "continuation"):
            continuing = cast(Continuing, model)
        else:
            what = f"{asked.model} knows conversations only: ask it at /v1/chat/completions"
            raise Refused(400, what, param="model")
        trace = request.state.identity.removeprefix("req-")
        out = Outgoing(send, trace, stream=bool(asked.stream))
        told = _Texts(asked, _COMPLETION_ID + trace, out)

        async def work() -> None:
            for place, prompt in enumerate(asked.prompts()):
                question = Question(
                    name=asked.model,
                    request=structs.replace(
                        wanted, messages=(Message(role="user", content=prompt),)
                    ),
                    identity=told.identity,
                    trace=trace if place == 0 else fresh(16),
                    project=request.state.project,
                )
                one = model if continuing is None else _Continued(continuing, prompt)
                told.next()
                await self._answering.answer(one, question, told)
                if told.broken:
                    break
            await told.close()

        await unless_left(receive, told, work)


class _Continued:
    """A model that goes on with one prompt, whatever it is asked."""

    def __init__(self, model: Continuing, prompt: str) -> None:
        self.name, self.provider = model.name, observed.provider(model)
        self._model, self._prompt = model, prompt

    def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        return self._model.continuation(self._prompt, request)

    def cost_usd(self, usage: Usage) -> float | None:
        return observed.cost_usd(self._model, usage)


class _Texts(Told):
    """The texts on their way to the client, streamed or whole."""

    def __init__(self, asked: CompletionBody, identity: str, out: Outgoing) -> None:
        super().__init__(out)
        self.identity = identity
        self.broken = False
        """Whether an error ended the stream."""
        self._wants_usage = bool((asked.stream_options or {}).get("include_usage"))
        self._usage = Usage()
        self._choices: list[dict[str, Any]] = []
        self._head = {
            "id": identity,
            "object": "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }

    def next(self) -> None:
        """What comes now belongs to the next prompt."""
        self._choices.append(_choice(len(self._choices), "", None))

    async def add(self, delta: Delta) -> None:
        """Takes the next piece."""
        choice = self._choices[-1]
        if isinstance(delta, TextDelta):
            choice["text"] += delta.text
            await self._piece(_choice(choice["index"], delta.text, None))
        elif isinstance(delta, Done):
            self._usage += delta.usage
            choice["finish_reason"] = _reason(delta)
            await self._piece(_choice(choice["index"], "", choice["finish_reason"]))

    async def fail(self, error: Exception) -> None:
        """Ends a stream with the error, which the client raises."""
        self.broken = True
        await self.out.events(b"data: " + refusal(error, self.identity).body() + b"\n\n", last=True)

    async def close(self) -> None:
        """Sends what is left: the whole answer, or the end of the stream."""
        usage = usage_to_openai(self._usage)
        if not self.out.stream:
            await self.out.whole({**self._head, "choices": self._choices, "usage": usage})
        elif not self.broken:
            last = {**self._head, "choices": [], "usage": usage}
            told = outgoing.event(last) if self._wants_usage else b""
            await self.out.events(told + b"data: [DONE]\n\n", last=True)

    async def _piece(self, choice: dict[str, Any]) -> None:
        if self.out.stream:
            none = {"usage": None} if self._wants_usage else {}
            await self.out.events(outgoing.event({**self._head, "choices": [choice], **none}))


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _reason(done: Done) -> str:
    # There are no calls in this protocol.
    return "stop" if done.finish_reason == "tool_calls" else done.finish_reason


def _read(body: bytes) -> tuple[CompletionBody, ChatRequest]:
    """The request's fields, and what is asked of a model about each prompt."""
    plain, _ = fields(body)
    for name, nothing in _ONLY.items():
        if plain.pop(name, None) not in nothing:
            only = " or ".join(str(value).lower() for value in nothing[1:])
            raise Refused(400, f"{name} is not done here: leave it out, or {only}", param=name)
    try:
        asked = msgspec.convert(plain, CompletionBody)
    except msgspec.ValidationError as error:
        raise mistake(error) from error
    asked.prompts()
    if asked.max_tokens is not None and asked.max_tokens < 1:
        what = f"max_tokens must be at least 1, not {asked.max_tokens}"
        raise Refused(400, what, param="max_tokens")
    if asked.stream_options is not None and not asked.stream:
        raise Refused(400, "stream_options goes only with stream", param="stream_options")
    known = CompletionBody.__struct_fields__
    return asked, ChatRequest(
        messages=(),
        temperature=number("temperature", asked.temperature, 0, 2),
        top_p=number("top_p", asked.top_p, 0, 1),
        max_tokens=asked.max_tokens or MAX_TOKENS,
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        seed=asked.seed,
        whole=not asked.stream,
        extra={k: v for k, v in plain.items() if k not in known and v is not None},
    )
