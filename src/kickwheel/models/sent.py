"""A request as the server or the engine of a model gets it, without asking it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kickwheel.models.chat import ChatRequest, Model
from kickwheel.records import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request on the wire; headers, where keys are, do not belong to it."""

    model: str
    """Its name in the app."""
    url: str = ""
    """Where it is posted to; empty where it goes to an engine of our own."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The JSON that is posted. Engines of our own get the whole text that the model reads as
    `prompt`, and what its answer is held to as `grammar`."""


def sent(model: Model, request: ChatRequest) -> Sent:
    """What is sent where the model is asked; of several behind one name, to the first.

    Models say so in a method `sent`; of one that has none, the request as it gets it is told.
    """
    own = getattr(model, "sent", None)
    if own is not None:
        found: Sent = own(request)
        return found
    inner = _inner(model)
    if inner is not None:
        return sent(inner, request)
    return Sent(model=model.name, body=wire.to_plain(request))


def _inner(model: Model) -> Model | None:
    """The model behind this one."""
    chain = getattr(model, "models", None)
    behind = chain[0] if chain else getattr(model, "current", None) or getattr(model, "model", None)
    return behind if hasattr(behind, "stream") else None
