from typing import Any

from kickwheel.models.arguments import without_choices
from kickwheel.models.chat import ChatRequest
from kickwheel.models.client import chat_body
from kickwheel.records import Message, ToolSpec
from tests.wires.anthropic import message_body
from tests.wires.bedrock import converse_body

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
CHOICE: dict[str, Any] = {
    "type": "object",
    "properties": {"where": TEXT},
    "required": ["where"],
    "oneOf": [
        {"properties": {"name": TEXT}, "required": ["name"]},
        {"properties": {"number": NUMBER}, "required": ["number"]},
    ],
}
OPEN = {
    "type": "object",
    "properties": {"name": TEXT, "number": NUMBER, "where": TEXT},
    "required": ["where"],
}


def test_choices_at_the_top_become_all_that_may_be_given() -> None:
    assert without_choices(CHOICE) == OPEN


def test_what_all_parts_demand_is_demanded() -> None:
    part = {"properties": {"name": TEXT}, "required": ["name"]}
    found = without_choices({"type": "object", "allOf": [part, True], "not": {"required": ["x"]}})
    assert found == {"type": "object", **part}


def test_a_schema_without_them_is_the_same_object() -> None:
    assert without_choices(OPEN) is OPEN


def test_no_provider_gets_them() -> None:
    tools = (ToolSpec(name="find", parameters=CHOICE),)
    request = ChatRequest(messages=(Message(role="user", content="?"),), tools=tools)
    sent = (
        chat_body(request, "m")["tools"][0]["function"]["parameters"],
        message_body(request, "m", 9)["tools"][0]["input_schema"],
        converse_body(request, "m")["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"],
    )
    assert all(schema == OPEN for schema in sent)
