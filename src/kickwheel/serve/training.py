"""A training file, checked line by line before a job spends an hour on it.

A line is read as the job reads it, by `trace.forms`; what only tuning wants is checked beside.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from kickwheel.core.plugins import nearest
from kickwheel.trace import jsonl
from kickwheel.trace.forms import chat, gather

LEAST = 10
"""Examples that a training file needs."""
NAMED = 20
"""Bad lines that the error names; the others are counted."""
FIRST = 5
"""Bad lines that are named where no line is good: the file is of another form."""


@dataclass(slots=True)
class Checked:
    """What a training file holds."""

    name: str
    examples: int = 0
    bad: list[str] = field(default_factory=list)
    """What is wrong, `chats.jsonl:212: …`."""

    def problem(self, least: int = LEAST) -> str | None:
        """Why it cannot be used, naming the bad lines; `None` where it can."""
        if self.bad:
            more = len(self.bad) - NAMED
            rest = f"\nand {more} more" if more > 0 else ""
            return (
                f"{len(self.bad)} of {self.examples + len(self.bad)} lines cannot be used:\n"
                + "\n".join(self.bad[:NAMED])
                + rest
            )
        if self.examples < least:
            count = "1 example" if self.examples == 1 else f"{self.examples} examples"
            return f"{self.name} has {count}; tuning needs at least {least}. Add more lines."
        return None


def check_training_file(path: Path, name: str, context: int | None = None) -> Checked:
    """What the JSONL file holds: of each line the same as an import of traffic would read.

    Args:
        name: what the file is called in messages.
        context: tokens that the model reads and writes at most, where known. Tokens are not
            counted here: a line is refused only where its answer has that many words already; the
            tuning itself counts.
    """
    checked = Checked(name)
    way_on = jsonl.array(path, name)
    if way_on is not None:
        checked.bad.append(way_on)
        return checked
    for number, line, _, _ in jsonl.lines(path):
        try:
            _check(line, context)
            checked.examples += 1
        except ValueError as error:
            checked.bad.append(f"{name}:{number}: {error}")
    return checked


def nothing_good(path: Path, name: str) -> str | None:
    """Why no line of the file can be used, naming the first ones; `None` where one can. It is read
    no further than to that line."""
    way_on = jsonl.array(path, name)
    if way_on is not None:
        return way_on
    bad: list[str] = []
    count = 0
    for number, line, _, _ in jsonl.lines(path):
        count += 1
        try:
            _check(line, None)
        except ValueError as error:
            if len(bad) < FIRST:
                bad.append(f"{name}:{number}: {error}")
        else:
            return None
    if not count:
        return f"{name} is empty: a training file has one JSON object a line"
    rest = [f"and {count - len(bad)} more"] if count > len(bad) else []
    return "\n".join([f"no line of {name} can be used:", *bad, *rest])


def _check(line: bytes, context: int | None) -> None:
    trace = chat.read(line, workload="training", source="")
    gather.storable(trace)
    asked = trace.spans[0]
    if not asked.output:
        raise ValueError(f"there is no answer to learn from, only an error: {asked.error}")
    (answer,) = asked.output
    if not answer.content and not answer.tool_calls:
        raise ValueError("the answer is empty")
    if not any(message.role == "user" for message in asked.input):
        raise ValueError("there is no message of the user")
    offered = {tool.name: None for tool in asked.tools}
    for call in answer.tool_calls:
        if not _is_object(call.arguments):
            raise ValueError(f"the arguments of {call.name} are no JSON object")
        if offered and call.name not in offered:
            what = f'the answer calls "{call.name}", which is not offered. '
            raise ValueError(what + nearest(call.name, offered))
    texts = (answer.content or "", *(call.arguments for call in answer.tool_calls))
    words = sum(len(text.split()) for text in texts)
    if context is not None and words >= context:
        raise ValueError(
            f"the answer has {words} words, but the model's context is {context} tokens. "
            "Shorten it, or leave the line out."
        )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
