"""Datasets, models and reports that are made, not measured."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kickwheel.core.errors import ModelError
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.records import (
    AcceptedCall,
    AnswerKind,
    Cleanliness,
    Dataset,
    Example,
    Message,
    Overlap,
    Split,
    ToolCall,
    ToolSpec,
)

BOOK = ToolSpec(
    name="book",
    description="Books a table",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "seats": {"type": "integer"},
            "outside": {"type": "boolean", "default": False},
        },
        "required": ["city"],
    },
)
FIND = ToolSpec(
    name="find", parameters={"type": "object", "properties": {"city": {"type": "string"}}}
)
CITIES = ("Paris", "Rome", "New York", "Łódź", "Quito", "Bern")


def called(name: str, **arguments: Any) -> Message:
    call = ToolCall(id="call_0", name=name, arguments=json.dumps(arguments))
    return Message(role="assistant", tool_calls=(call,))


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def example(
    number: int,
    question: str,
    answer: Message,
    *,
    kind: AnswerKind = "call",
    split: Split = "test",
    accepted: Sequence[AcceptedCall] = (),
    tools: Sequence[ToolSpec] = (),
    cluster: str | None = None,
    system: str | None = None,
) -> Example:
    head = (Message(role="system", content=system),) if system else ()
    return Example(
        id=f"e{number:04}",
        messages=(*head, Message(role="user", content=question)),
        tools=tuple(tools),
        answer=answer,
        accepted=tuple(accepted),
        kind=kind,
        split=split,
        cluster=cluster or f"c{number:04}",
        source=f"t{number:04}",
    )


def tables(test: int = 12, train: int = 12, *, clean: bool = True) -> Dataset:
    """Questions for tables, each with one right call to `book`."""
    examples = []
    for number in range(test + train + 2):
        split: Split = "test" if number < test else "train"
        if number >= test + train:
            split = "validation"
        city, seats = CITIES[number % len(CITIES)], number % 7 + 1
        examples.append(
            example(
                number,
                f"A table in {city} for {seats} on day {number}",
                called("book", city=city, seats=seats),
                split=split,
                tools=(BOOK, FIND),
                accepted=[
                    AcceptedCall(
                        name="book",
                        arguments={"city": (city,), "seats": (seats,), "outside": (False,)},
                        optional=("outside",),
                    )
                ],
                cluster=f"{split}-{number // 2}",
            )
        )
    return dataset(examples, clean=clean)


def dataset(examples: Sequence[Example], *, clean: bool = True) -> Dataset:
    test = [e for e in examples if e.split == "test"]
    return Dataset(
        name="made",
        examples=tuple(examples),
        steps=(),
        dropped=(),
        cleanliness=Cleanliness(
            tested=len(test),
            exact=0 if clean else 3,
            near=0 if clean else 5,
            threshold=0.8,
            overlaps=tuple(
                Overlap(
                    example=e.id,
                    nearest="e9999",
                    ngram=number / max(1, len(test)) * 0.7,
                    embedding=None,
                )
                for number, e in enumerate(test)
            ),
            clean=clean,
        ),
    )


@dataclass
class Scripted:
    """A model whose answers a function gives; it keeps what it was asked."""

    name: str
    answer: Callable[[ChatRequest], Message | Exception]
    asked: list[ChatRequest] = field(default_factory=list)
    finish: str = "stop"

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append(request)
        message = self.answer(request)
        if isinstance(message, Exception):
            raise message
        if message.content:
            yield TextDelta(message.content)
        for index, call in enumerate(message.tool_calls):
            yield CallDelta(index, call.arguments, call.id, call.name)
        usage = Usage(prompt_tokens=10 * len(request.messages), output_tokens=7, cached_tokens=4)
        yield Done(self.finish, usage, self.name)  # type: ignore[arg-type]


def failing(status: int = 502) -> Callable[[ChatRequest], Exception]:
    return lambda request: ModelError("upstream is gone", status=status)


def knows(known: Dataset, right: Callable[[Example], bool]) -> Callable[[ChatRequest], Message]:
    """Answers as the dataset does where `right` says so, otherwise with a wrong city."""

    def answer(request: ChatRequest) -> Message:
        asked = request.messages[-1].content
        found = next(e for e in known.examples if e.messages[-1].content == asked)
        if right(found):
            return found.answer
        return called("book", city="Nowhere", seats=0) if found.kind == "call" else said("wrong")

    return answer
