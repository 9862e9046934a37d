"""ConverseStream: requests and events, by the service model in botocore and the rules of `talk`.

botocore itself looks at types, at what is required and at least lengths when a request is sent;
patterns, enumerations and most lengths, which the same model holds, only AWS looks at.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.model import OperationModel, Shape, StructureShape
from botocore.validate import ParamValidator

from kickwheel.models import converse
from tests.wires import talk
from tests.wires.talk import Block, Turn


def converse_body(*asking: Any) -> dict[str, Any]:
    """What `converse.converse_body` makes, which Bedrock takes."""
    body = converse.converse_body(*asking)
    sent = {key: value for key, value in body.items() if key != "modelId"}
    found = asked(sent, body["modelId"])
    assert not found, found
    return body


def asked(body: Mapping[str, Any], model: str) -> list[str]:
    """What Bedrock would not take of a request.

    Args:
        body: the parameters, or the JSON that was posted, in which bytes are base64.
        model: its id, as the path has it.
    """
    shape = _operation().input_shape
    found = _faults(shape, {**body, "modelId": model})
    if found:
        return found
    config = body.get("toolConfig", {})
    tools = [tool["toolSpec"] for tool in config.get("tools", ()) if "toolSpec" in tool]
    for tool in tools:
        if tool["inputSchema"]["json"].get("type") != "object":
            found.append(f"toolConfig: the schema of {tool['name']} must have type object")
    turns = [Turn(t["role"], [_block(block) for block in t["content"]]) for t in body["messages"]]
    chosen = config.get("toolChoice", {}).get("tool", {}).get("name")
    found += talk.faults(turns, [tool["name"] for tool in tools], chosen)
    for block in body.get("system", ()):
        if "text" in block and not block["text"].strip():
            found.append("system: the text field is blank")
    if str(body).count("'cachePoint'") > talk.MARKS:
        found.append(f"more than {talk.MARKS} marks for the cache")
    return found


def said(kind: str, event: Mapping[str, Any]) -> list[str]:
    """What of an event the service model does not have."""
    events = _operation().output_shape.members["stream"].members
    if kind not in events:
        return [f"no event {kind}"]
    return _faults(events[kind], event)


@cache
def _operation() -> OperationModel:
    service = botocore.session.Session().get_service_model("bedrock-runtime")
    return service.operation_model("ConverseStream")


def _faults(shape: StructureShape, value: Mapping[str, Any]) -> list[str]:
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        return str(report.generate_report()).splitlines()
    return list(_finer(shape, value, ""))


def _finer(shape: Shape, value: Any, where: str) -> Iterator[str]:
    """What botocore leaves to AWS."""
    known = shape.metadata
    if isinstance(value, str) and shape.type_name == "string":
        if "enum" in known and value not in known["enum"]:
            yield f"{where}: {value!r} is none of {known['enum']}"
        if "pattern" in known and not re.fullmatch(known["pattern"], value):
            yield f"{where}: {value!r} does not match {known['pattern']}"
    size = len(value) if isinstance(value, str | list) else value
    if isinstance(size, int | float) and size > known.get("max", size):
        yield f"{where}: {size} is more than {known['max']}"
    match shape.type_name:
        case "structure" if not shape.is_document_type:
            for name in value.keys() - shape.members.keys():
                yield f"{where}.{name}: unknown"
            for name in value.keys() & shape.members.keys():
                yield from _finer(shape.members[name], value[name], f"{where}.{name}")
        case "list":
            for place, entry in enumerate(value):
                yield from _finer(shape.member, entry, f"{where}.{place}")


def _block(block: Mapping[str, Any]) -> Block:
    ((kind, held),) = block.items()
    match kind:
        case "text":
            return Block("text", held)
        case "image":
            return Block("picture")
        case "toolUse":
            return Block("use", identity=held["toolUseId"], name=held["name"])
        case "toolResult":
            return Block("result", identity=held["toolUseId"])
        case "cachePoint":
            return Block("mark")
    raise ValueError(f"we send no {kind}")
