"""A whole NAT file, and the app that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from kickwheel.agents.nat.agents import AGENTS, agent
from kickwheel.agents.nat.house import House
from kickwheel.agents.nat.models import length, model
from kickwheel.agents.nat.rest import general, memories, others
from kickwheel.agents.nat.servers import aliases, elsewhere
from kickwheel.agents.nat.tools import CLOCK, CLOCK_TEXT, group, tool
from kickwheel.agents.nat.written import Entry, Left, Written
from kickwheel.core.errors import ConfigError, Mistake

WORKFLOW = "workflow"
"""The agent that the workflow becomes, where it names no other."""
_MEMORY_TOOLS = ("add_memory", "get_memory", "delete_memory")
_CODE = (
    "A graph or agent of another framework is one of ours as it is: agents: {NAME: {kind: "
    "langgraph, object: MODULE:OBJECT}}, and so for LangChain, LlamaIndex, CrewAI, Semantic "
    "Kernel, ADK, Strands, AutoGen; for others write an agent of ours around the models"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """What a NAT file becomes."""

    files: Mapping[str, str]
    """By name: `app.yml`, and what it needs beside it."""
    left: tuple[Left, ...]
    """Keys without a counterpart, in the order of the file."""


def translate(file: Path) -> Translated:
    """The app that a NAT workflow becomes, and what of it has no counterpart.

    Raises:
        ConfigError: the file is no YAML mapping, builds on one that is none, or is no workflow.
    """
    written = Written.read(file)
    house = House()
    for entry in written.section("llms").entries():
        house.models[entry.name] = model(entry)
        tokens = length(entry)
        if tokens is not None:
            house.lengths[entry.name] = tokens
    memories(written, house)
    _tools(written, house)
    _agents(written, house)
    sections = general(written)
    others(written)
    unknown = list(written.unknown())
    if set(written.data) == {where[0] for where in unknown}:
        what = "no workflow of NAT: it has none of workflow, functions and llms"
        raise ConfigError([Mistake(file=str(file), line=1, column=1, where="", what=what)])
    for where in unknown:
        written.tell(where, "is no key of NAT 1.9 that we know: nothing became of it", act=True)
    shelves = {
        "models": house.models,
        "tools": house.tools,
        "memory": house.memory,
        "agents": house.agents,
        **sections,
    }
    app = {name: shelf for name, shelf in shelves.items() if shelf}
    left = sorted(written.left, key=lambda one: (one.file != str(file), one.line, one.column))
    files = {"app.yml": _yaml(file, app, sum(one.act for one in left))}
    if any("clock:" in str(box.get("functions")) for box in house.tools.values()):
        files[CLOCK] = CLOCK_TEXT
    return Translated(files=files, left=tuple(left))


def _tools(written: Written, house: House) -> None:
    guards = written.data.get("authentication")
    for entry in written.section("function_groups").entries():
        if entry.type == "a2a_client":
            house.agents[entry.name] = elsewhere(entry)
            continue
        made = group(entry, guards if isinstance(guards, Mapping) else {})
        if made is not None:
            house.tools[entry.name] = made
            house.aliases[entry.name] = aliases(entry)
    for entry in written.section("functions").entries():
        kind = entry.type
        if kind in AGENTS:
            house.pending[entry.name] = partial(agent, entry, entry.name, house)
        elif kind in _MEMORY_TOOLS:
            house.remembering[entry.name] = _memory(entry, house)
        else:
            made = tool(entry, kind)
            if made is not None:
                house.tools[entry.name] = made


def _memory(entry: Entry, house: House) -> str:
    name = entry.text("memory") or "memory"
    house.memory.setdefault(name, {"kind": "facts"})
    entry.rest("nothing to set: agents with a memory learn and recall by themselves", act=False)
    return name


def _agents(written: Written, house: House) -> None:
    while house.pending:
        house.pending.pop(next(iter(house.pending)))()
    workflow = written.section("workflow")
    if not workflow.data:
        return
    kind = workflow.type
    name = str(workflow.data.get("workflow_alias") or WORKFLOW)
    if kind in AGENTS:
        agent(workflow, name, house)
    elif kind and kind != "EmptyFunctionConfig":
        _other_workflow(workflow, kind, name, house)


def _other_workflow(workflow: Entry, kind: str, name: str, house: House) -> None:
    """A workflow that is a tool, or code of its own."""
    made = tool(workflow, kind)
    if made is None:
        workflow.written.left.pop()
        workflow.whole(f'code of the workflow\'s own ("{kind}"). {_CODE}')
        return
    house.tools[name] = made
    if house.models:
        house.agents[name] = {
            "kind": "tool_loop",
            "model": next(iter(house.models)),
            "tools": [name],
            "answer": "result",
        }


def _yaml(file: Path, app: Mapping[str, Any], todo: int) -> str:
    writer = YAML()
    writer.width = 100
    writer.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    writer.dump(_plain(app), text)
    left = f"{todo} keys of it are left to do" if todo else "nothing of it is left to do"
    return f"# Made from {file.name} by `kickwheel import-nat`; {left}.\n{text.getvalue()}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)
