"""NAT's control flow as our agents: who is asked, and in which order."""

from itertools import pairwise
from typing import Any

from kickwheel.agents.nat.house import House, model, refer
from kickwheel.agents.nat.written import Entry


def router(entry: Entry, house: House) -> dict[str, Any] | None:
    """`kind: router`, for a router_agent; `None` where none of its branches is there."""
    made: dict[str, Any] = {"kind": "router", "model": model(entry, house)}
    found: dict[str, Any] = {}
    refer(entry, found, house, "branches")
    branches = [*found.get("agents", ())]
    for name in found.get("tools", ()):
        # A router chooses among agents: a tool becomes one that does nothing else.
        house.agents[f"{name}_branch"] = {
            "kind": "tool_loop", "model": made["model"], "tools": [name], "answer": "result",
            "description": str(entry.written.section("functions").entry(name).data
                               .get("description") or f"What {name} does."),
        }  # fmt: skip
        branches.append(f"{name}_branch")
    for key in ("system_prompt", "user_prompt"):
        entry.todo(key, "a router is told the agents' descriptions: say there what each is good at")
    entry.moot("max_router_retries", "nothing to set: the answer is held to the agents' names")
    if not branches:
        entry.written.tell(
            (*entry.where, "branches"), "none of them is there yet: add them to agents", act=True
        )
        return None
    made["agents"] = branches
    return made


def sequence(entry: Entry, house: House) -> dict[str, Any] | None:
    """`kind: graph`, a node after the other, for a sequential_executor; `None` without nodes."""
    return _graph(entry, house, in_turn=True)


def parallel(entry: Entry, house: House) -> dict[str, Any] | None:
    """`kind: graph`, all nodes at once, for a parallel_executor; `None` without nodes."""
    return _graph(entry, house, in_turn=False)


def _graph(entry: Entry, house: House, *, in_turn: bool) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    order = refer(entry, found, house, "tool_list")
    entry.moot("raise_type_incompatibility", "nothing to set: nodes pass texts on")
    entry.moot("return_error_on_exception", "an error ends the run and is told to the caller")
    entry.moot("tool_execution_config", "nothing to set: every node is streamed as it answers")
    nodes: dict[str, Any] = {}
    before = "question"
    for name in order:
        node = name.replace("-", "_")
        while node in nodes:
            node += "_again"
        if name in house.tools:
            nodes[node] = {"tool": name, "arguments": _arguments(house.tools[name], before)}
            if house.tools[name]["kind"] not in ("http", "python"):
                where = (*entry.where, "tool_list")
                entry.written.tell(
                    where, f"write the call and arguments of the node {node}", act=True
                )
        else:
            nodes[node] = {"agent": name, "task": f"{{{before}}}"}
        before = node if in_turn else "question"
    if not nodes:
        entry.written.tell(
            (*entry.where, "tool_list"), "none of them is there yet: add them as nodes", act=True
        )
        return None
    names = list(nodes)
    edges: list[dict[str, Any]] = [{"to": names[0] if in_turn else names}]
    if in_turn:
        edges += [{"from": one, "to": other} for one, other in pairwise(names)]
    return {"kind": "graph", "nodes": nodes, "edges": edges}


def _arguments(box: dict[str, Any], before: str) -> dict[str, str]:
    requests = box.get("requests")
    if isinstance(requests, dict):
        (request,) = requests.values()
        return dict.fromkeys(request.get("parameters", {}), f"{{{before}}}")
    return {}
