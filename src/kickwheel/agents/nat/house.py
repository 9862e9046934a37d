"""The parts of the app while it is made, and what a name of NAT's stands for among them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kickwheel.agents.nat.written import Entry


@dataclass(slots=True)
class House:
    """The parts of the app so far."""

    models: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    """Tokens of an answer at most, by model."""
    tools: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Functions that are agents and not made yet, each with what makes it: whatever names one has
    it made first."""
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    """By group, the names that it gives its tools, with their own."""
    remembering: dict[str, str] = field(default_factory=dict)
    """Functions that are tools of a memory, with its name."""


def model(entry: Entry, house: House) -> str:
    """The name of the model that an agent asks."""
    name = entry.text("llm_name") or next(iter(house.models), "general")
    if name not in house.models:
        house.models[name] = {"kind": "openai", "model": name}
        where = (*entry.where, *(("llm_name",) if "llm_name" in entry else ()))
        entry.written.tell(where, f'there is no llm "{name}": write models.{name}', act=True)
    return name


def refer(entry: Entry, made: dict[str, Any], house: House, key: str) -> list[str]:
    """Adds what the names at the key stand for; returns those that are there, in their order."""
    there: list[str] = []
    for position, written in enumerate(entry.names(key)):
        place = found(written, house)
        if place is None:
            listed = isinstance(entry.data.get(key), list)
            where = (*entry.where, key, position) if listed else (*entry.where, key)
            what = f'"{written}" is left out here until it has a counterpart in the app'
            entry.written.tell(where, what, act=True)
            continue
        shelf, name = place
        if shelf != "memory":
            there.append(name)
        names = made.setdefault(shelf, [])
        # Of a group that is offered as a whole no single tool is offered once more.
        if name not in names and not any(name.startswith(f"{one}__") for one in names):
            names.append(name)
    return there


def found(name: str, house: House) -> tuple[str, str] | None:
    """The shelf and name of what NAT calls so; a member of a group is `group__member`, and was
    `group.member`."""
    if name in house.tools:
        return "tools", name
    if name in house.pending:
        house.pending.pop(name)()
    if name in house.agents:
        return "agents", name
    if name in house.remembering:
        return "memory", house.remembering[name]
    for mark in ("__", "."):
        group, parted, member = name.partition(mark)
        if parted and group in house.agents:
            return "agents", group
        box = house.tools.get(group)
        if parted and box is not None and box["kind"] == "mcp":
            own = house.aliases.get(group, {}).get(member, member)
            house.tools[name] = {**box, "only": [own]}
            return "tools", name
    return None
