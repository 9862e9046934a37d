"""Who competes: ways of asking one question, each with a live model.

All get what a runtime may do for every one of them: the grammar of the answer, greedy decoding, the
same limit of tokens. They differ in what stands in the prompt.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kickwheel.core.errors import UsageError
from kickwheel.flywheel.evaluate.retrieve import Nearest, question
from kickwheel.models.chat import ChatRequest, Model
from kickwheel.records import Dataset, Example, Message, PromptForm

MAX_TOKENS = 256
"""Tokens of an answer at most, unless the training answers are longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One way of answering, ready to be asked."""

    name: str
    about: str
    """One sentence for the reader: which model, which prompt, which grammar."""
    model: Model
    ask: Callable[[Example], ChatRequest]
    role: Literal["candidate", "baseline", "incumbent", "variant"] = "baseline"
    identity: str = ""
    """What answers, for example digests of base and adapter: an answer from an evaluation that was
    killed is only used again for the same."""
    questions: int | None = None
    """How many test questions it gets, drawn by hash; `None`: all."""


class Asking:
    """What all requests about a dataset have in common."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        timeout_s: float = 120.0,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            dataset: labels, the shape of JSON answers and the length of answers are taken from its
                training and validation parts, never from its test.
            timeout_s: for one answer; longer is an error.
            max_tokens: of one answer; by default 256, or a token a character of the longest
                training answer where that is more.
            schema: of JSON answers; by default what the training answers have in common.
            extra: further fields of every request.
        """
        seen = [e for e in dataset.examples if e.split != "test"]
        self.train = dataset.part("train")
        texts = [_written(example.answer) for example in seen]
        self.max_tokens = max_tokens or max(MAX_TOKENS, *(len(t) for t in texts), 0)
        self.timeout_s = timeout_s
        self.extra = extra or {}
        self.labels = tuple(sorted({e.answer.content or "" for e in seen if e.kind == "label"}))
        answers = [e.answer.content or "" for e in seen if e.kind == "json"]
        self.schema = schema or (json_shape(answers) if answers else None)

    def request(
        self,
        example: Example,
        *,
        form: PromptForm | None = None,
        before: Sequence[Message] = (),
        constrained: bool = True,
    ) -> ChatRequest:
        """The example's question, after `before`."""
        head = tuple(m for m in example.messages if m.role in ("system", "developer"))
        rest = tuple(m for m in example.messages if m.role not in ("system", "developer"))
        must_call = constrained and example.kind == "call" and bool(example.tools)
        return ChatRequest(
            messages=(*head, *before, *rest),
            tools=example.tools,
            tool_choice="required" if must_call else "auto",
            labels=self.labels if constrained and example.kind == "label" else (),
            json_schema=self.schema if constrained and example.kind == "json" else None,
            temperature=0.0,
            max_tokens=self.max_tokens,
            form=form,
            constrained=constrained,
            timeout_s=self.timeout_s,
            extra=self.extra,
        )


def full_prompt(asking: Asking, model: Model, **more: Any) -> Entrant:
    """(a) The base with everything in its prompt: tools with their schemas, system messages."""
    form = PromptForm(tools="full", system=True)
    return Entrant(
        name="full-prompt",
        about=f"{model.name} with the whole prompt: every tool's schema, every instruction; "
        "the answer's form is enforced",
        model=model,
        ask=lambda example: asking.request(example, form=form),
        **more,
    )


def few_shot(
    asking: Asking, model: Model, *, k: int = 3, acknowledge: str | None = None, **more: Any
) -> Entrant:
    """(b) The base with `k` examples from the training part, those most like the question.

    Args:
        acknowledge: a tool's result after each example call. OpenAI's protocol wants one; a prompt
            that we write ourselves is shorter without.
    """
    nearest = Nearest(asking.train)
    form = PromptForm(tools="none", system=True)

    def ask(example: Example) -> ChatRequest:
        shown = [
            message
            for shot in reversed(nearest.find(example, k))
            for message in _shot(shot, acknowledge)
        ]
        return asking.request(example, form=form, before=shown)

    return Entrant(
        name="few-shot",
        about=f"{model.name} with the {k} training examples most like the question; tools stand "
        "in the grammar only",
        model=model,
        ask=ask,
        **more,
    )


def specialist(asking: Asking, model: Model, *, name: str = "specialist", **more: Any) -> Entrant:
    """(c) The tuned model with the prompt that it was tuned with; also the incumbent."""
    more.setdefault("role", "incumbent" if name == "incumbent" else "candidate")
    who = "the model at work now" if name == "incumbent" else "the tuned model"
    return Entrant(
        name=name,
        about=f"{who}, {model.name}, with its short prompt; the answer's form is enforced",
        model=model,
        ask=lambda example: asking.request(example),
        **more,
    )


def specialist_free(asking: Asking, model: Model, **more: Any) -> Entrant:
    """(c) without grammar: what the weights know by themselves."""
    return Entrant(
        name="specialist-free",
        about=f"the tuned model, {model.name}, with its short prompt and nothing enforced",
        model=model,
        ask=lambda example: asking.request(example, constrained=False),
        role="variant",
        **more,
    )


def check(entrants: Sequence[Entrant], candidate: str) -> None:
    """Raises UsageError where the field makes no comparison."""
    names = [entrant.name for entrant in entrants]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"two contestants are named {', '.join(sorted(twice))}")
    if candidate not in names:
        raise UsageError(f'no contestant is named "{candidate}": there are {", ".join(names)}')
    if len(names) < 2:
        raise UsageError("a comparison needs at least two contestants")


def json_shape(answers: Sequence[str]) -> dict[str, Any]:
    """A JSON Schema that these answers have in common, as loose as they differ.

    Objects keep their properties in the order of the first answer; what all have is required.
    """
    values = []
    for answer in answers:
        try:
            values.append(json.loads(answer))
        except ValueError:
            continue
    return _shape(values)


def _shape(values: list[Any], depth: int = 0) -> dict[str, Any]:
    kinds = {_kind(value) for value in values}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1 or depth > 6:
        return {}
    kind = kinds.pop()
    if kind == "object":
        keys = list(dict.fromkeys(key for value in values for key in value))
        return {
            "type": "object",
            "properties": {
                key: _shape([v[key] for v in values if key in v], depth + 1) for key in keys
            },
            "required": [key for key in keys if all(key in value for value in values)],
        }
    if kind == "array":
        entries = [entry for value in values for entry in value]
        return {"type": "array", **({"items": _shape(entries, depth + 1)} if entries else {})}
    return {"type": kind}


def _kind(value: Any) -> str:
    for kind, name in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    ):
        if isinstance(value, kind):
            return name
    return "null"


def _shot(example: Example, acknowledge: str | None) -> list[Message]:
    said = [Message(role="user", content=question(example)), example.answer]
    if acknowledge is not None:
        said += [
            Message(role="tool", content=acknowledge, tool_call_id=call.id)
            for call in example.answer.tool_calls
        ]
    return said


def _written(answer: Message) -> str:
    calls = "".join(call.name + call.arguments for call in answer.tool_calls)
    return calls or answer.content or ""
