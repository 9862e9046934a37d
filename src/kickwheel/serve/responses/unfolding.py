"""A response as it comes into being: pieces of an answer in, events of the stream out.

Whole answers come about in the same way, with nobody to listen.
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from kickwheel.models.chat import CallDelta, Delta, Done, TextDelta, Usage
from kickwheel.serve.errors import Refused
from kickwheel.serve.responses.request import Asked

Event = dict[str, Any]

SETTLED = ("completed", "failed", "incomplete", "cancelled")
"""How a response may have ended."""
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Unfolding:
    """One response on its way.

    Args:
        response: what is known of it before (`begun`).
        tell: takes each event as it happens.
    """

    def __init__(self, response: dict[str, Any], tell: Callable[[Event], None]) -> None:
        self.response = response
        self._tell = tell
        self.told = 0
        """Events so far."""
        self._text: dict[str, Any] | None = None
        """The message that text goes into now."""
        self._calls: dict[int, tuple[int, dict[str, Any]]] = {}
        """By the model's own number of the call: place in the output, and the item."""

    def begin(self) -> None:
        """Says that there is a response."""
        self._event("response.created", response=dict(self.response, output=[]))
        self._event("response.in_progress", response=dict(self.response, output=[]))

    def add(self, delta: Delta) -> None:
        """Takes the next piece of the answer; `Done` ends the response."""
        match delta:
            case TextDelta(""):
                return
            case TextDelta(text):
                self._say(text)
            case CallDelta():
                self._call(delta)
            case Done():
                self._end(delta)

    def fail(self, error: Refused) -> None:
        """Ends the response with an error."""
        code = {429: "rate_limit_exceeded"}.get(error.status)
        code = code or ("server_error" if error.status >= 500 else "invalid_prompt")
        self.response["error"] = {"code": code, "message": error.message}
        self._break_off()
        self._settle("failed")

    def cancel(self) -> None:
        """Ends the response, because somebody wished so."""
        self.response["status"] = "cancelled"
        self._break_off()
        self._event("response.cancelled", response=self.response)

    def _say(self, text: str) -> None:
        output = self.response["output"]
        if self._text is None:
            self._text = {
                "id": f"msg_{self._item_id()}",
                "type": "message",
                "role": "assistant",
                "status": "in_progress",
                "content": [],
            }
            output.append(self._text)
            self._event("response.output_item.added", output_index=len(output) - 1, item=self._text)
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self._event("response.content_part.added", **self._within(), part=part)
            self._text["content"].append(part)
        self._text["content"][0]["text"] += text
        self._event("response.output_text.delta", **self._within(), delta=text, logprobs=[])

    def _call(self, delta: CallDelta) -> None:
        output = self.response["output"]
        if delta.index not in self._calls:
            self._close_text("completed")
            item = {
                "id": f"fc_{self._item_id()}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": delta.id or f"call_{delta.index}",
                "name": delta.name or "",
                "arguments": "",
            }
            output.append(item)
            self._calls[delta.index] = (len(output) - 1, item)
            self._event("response.output_item.added", output_index=len(output) - 1, item=item)
        place, item = self._calls[delta.index]
        if delta.arguments:
            item["arguments"] += delta.arguments
            self._event(
                "response.function_call_arguments.delta",
                item_id=item["id"],
                output_index=place,
                delta=delta.arguments,
            )

    def _end(self, done: Done) -> None:
        cut = _CUT.get(done.finish_reason)
        status = "incomplete" if cut else "completed"
        self._close_text(status)
        for place, item in self._calls.values():
            item["status"] = status
            self._event(
                "response.function_call_arguments.done",
                item_id=item["id"],
                output_index=place,
                name=item["name"],
                arguments=item["arguments"],
            )
            self._event("response.output_item.done", output_index=place, item=item)
        self.response["usage"] = usage_of(done.usage)
        if cut:
            self.response["incomplete_details"] = {"reason": cut}
        self._settle(status)

    def _close_text(self, status: str) -> None:
        item = self._text
        if item is None:
            return
        part = item["content"][0]
        text = part["text"]
        self._event("response.output_text.done", **self._within(), text=text, logprobs=[])
        self._event("response.content_part.done", **self._within(), part=part)
        item["status"] = status
        place = self._within()["output_index"]
        self._event("response.output_item.done", output_index=place, item=item)
        self._text = None

    def _break_off(self) -> None:
        for item in self.response["output"]:
            if item["status"] == "in_progress":
                item["status"] = "incomplete"

    def _settle(self, status: str) -> None:
        self.response["status"] = status
        self.response["completed_at"] = int(time.time())
        self._event(f"response.{status}", response=self.response)

    def _within(self) -> dict[str, Any]:
        """Where the text that is said now goes."""
        assert self._text is not None
        place = self.response["output"].index(self._text)
        return {"item_id": self._text["id"], "output_index": place, "content_index": 0}

    def _item_id(self) -> str:
        trace = self.response["id"].partition("_")[2]
        return f"{trace}{len(self.response['output']):x}"

    def _event(self, kind: str, **what: Any) -> None:
        self._tell({"type": kind, "sequence_number": self.told, **what})
        self.told += 1


def begun(asked: Asked, identity: str) -> dict[str, Any]:
    """A response of which nothing is known yet but what was asked."""
    body = asked.body
    return {
        "id": identity,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": bool(body.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": None, "summary": None, **(body.reasoning or {})},
        "store": asked.stored,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}, **(body.text or {})},
        "tool_choice": body.tool_choice or "auto",
        "tools": [{"strict": False, **tool} for tool in asked.offered],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def refolded(response: Mapping[str, Any]) -> list[Event]:
    """The stream of a response, told anew: each text and call in one piece, and how it ended; of
    one that has not ended, how it began."""
    events: list[Event] = []
    unknown = dict.fromkeys(("completed_at", "error", "incomplete_details", "usage"))
    blank = {**response, **unknown, "status": "in_progress", "output": []}
    unfolding = Unfolding(blank, lambda event: events.append(deepcopy(event)))
    unfolding.begin()
    if response["status"] not in SETTLED:
        return events
    for place, item in enumerate(response["output"]):
        if item["type"] == "message":
            unfolding.add(TextDelta("".join(part["text"] for part in item["content"])))
        else:
            call = CallDelta(place, item["arguments"], item["call_id"], item["name"])
            unfolding.add(call)
    if response["status"] in ("completed", "incomplete"):
        unfolding.add(Done("stop", Usage()))
        events.pop()
    last = {"type": f"response.{response['status']}", "sequence_number": len(events)}
    return [*events, {**last, "response": response}]


def usage_of(usage: Usage) -> Mapping[str, Any]:
    """Usage as clients of responses read it; `estimated` stands there where nobody counted."""
    return {
        **({"estimated": True} if usage.estimated else {}),
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.written_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }
