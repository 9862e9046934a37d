"""NAT's agents as ours: of `functions`, and of the `workflow`."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from kickwheel.agents.nat.flows import parallel, router, sequence
from kickwheel.agents.nat.house import House, found, model, refer
from kickwheel.agents.nat.written import Entry

_LOOPS = "nothing to set: answers that break the form, and failed calls, are told to the model"
_LOGS = "nothing to set: every run is a trace"
_HISTORY = "long conversations are cut by memory: {recent: {kind: window}}, named in the agent"


def agent(entry: Entry, name: str, house: House) -> None:
    """Adds the agent that a function or workflow of NAT becomes."""
    made = AGENTS[entry.type](entry, house)
    about = entry.text("description")
    if about and made is not None:
        made["description"] = about
    for key in ("verbose", "log_response_max_chars", "detailed_logs", "workflow_alias", "name"):
        entry.moot(key, _LOGS if key != "name" else "agents are called as they stand in the file")
    entry.todo("middleware", "put what it guards against before or after the agent, in a graph")
    entry.rest("the counterpart has no such option")
    if made is not None:
        house.agents[name] = made


def _react(entry: Entry, house: House) -> dict[str, Any]:
    native = entry.take("use_native_tool_calling") is True
    made = _loop("tool_loop" if native else "react", entry, house)
    prompt = entry.take("system_prompt")
    if isinstance(prompt, str) and "{tools}" in prompt and not native:
        entry.todo("system_prompt", "a step has labels of ours: say what is special about this "
                   "prompt in the agent's instructions")  # fmt: skip
        prompt = None
    _instruct(made, prompt, entry.take("additional_instructions"))
    for key in ("retry_agent_response_parsing_errors", "retry_parsing_errors",
                "parse_agent_response_max_retries", "max_retries", "tool_call_max_retries",
                "pass_tool_call_errors_to_agent", "raise_on_parsing_failure",
                "include_tool_input_schema_in_tool_description",
                "normalize_tool_input_quotes"):  # fmt: skip
        entry.moot(key, _LOOPS)
    return made


def _tool_calling(entry: Entry, house: House) -> dict[str, Any]:
    made = _loop("tool_loop", entry, house)
    _instruct(made, entry.take("system_prompt"), entry.take("additional_instructions"))
    direct = entry.names("return_direct")
    if direct and set(direct) >= set(made.get("tools", ())):
        made["answer"] = "result"
    elif direct:
        entry.todo("return_direct", "all tools or none: answer: result ends with any call's result")
    for key in ("handle_tool_errors", "truncation_retry", "max_empty_response_retries"):
        entry.moot(key, _LOOPS)
    return made


def _responses(entry: Entry, house: House) -> dict[str, Any]:
    made = _loop("tool_loop", entry, house, "nat_tools")
    for position, one in enumerate(entry.take("mcp_tools") or ()):
        if isinstance(one, dict):
            name = str(one.get("server_label") or f"mcp_{position}")
            box: dict[str, Any] = {"kind": "mcp", "url": str(one.get("server_url"))}
            allowed = one.get("allowed_tools")
            if isinstance(allowed, list):
                box["only"] = [str(tool) for tool in allowed]
            house.tools[name] = box
            made.setdefault("tools", []).append(name)
            if one.get("headers") or one.get("authorization"):
                where = (*entry.where, "mcp_tools", position)
                entry.written.tell(where, f"write the headers of tools.{name}", act=True)
    entry.todo("builtin_tools", "what OpenAI runs itself has counterparts: kind: program for code, "
               "kind: browser or http for the web")  # fmt: skip
    entry.moot("parallel_tool_calls", "nothing to set: calls that may run at once do")
    entry.moot("handle_tool_errors", _LOOPS)
    return made


def _rewoo(entry: Entry, house: House) -> dict[str, Any]:
    made = _loop("plan", entry, house)
    _instruct(
        made, entry.take("additional_planner_instructions"),
        entry.take("additional_solver_instructions"),
    )  # fmt: skip
    for key in ("planner_prompt", "solver_prompt", "system_prompt"):
        entry.todo(key, "a plan has a form of ours: say what is special about it in instructions")
    for key in ("include_tool_input_schema_in_tool_description", "tool_call_max_retries",
                "raise_tool_call_error"):  # fmt: skip
        entry.moot(key, _LOOPS)
    return made


def _reasoning(entry: Entry, house: House) -> dict[str, Any]:
    """NAT lets a model think of a plan that another agent is told; ours carries it out with it."""
    made: dict[str, Any] = {"kind": "plan", "model": model(entry, house)}
    refer(entry, made, house, "augmented_fn")
    for key in ("reasoning_prompt_template", "instruction_prompt_template"):
        entry.todo(key, "a plan has a form of ours: say what is special about it in instructions")
    return made


def _chat(entry: Entry, house: House) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": "tool_loop", "model": model(entry, house)}
    _instruct(made, entry.take("system_prompt"))
    _lengthen(made, house)
    return made


def _writer(entry: Entry, house: House) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": "tool_loop", "model": model(entry, house)}
    language = entry.text("programming_language") or "Python"
    _instruct(made, f"Write {language} code for what is asked, and nothing else.")
    _lengthen(made, house)
    return made


def _remembering(entry: Entry, house: House) -> dict[str, Any] | None:
    """NAT wraps an agent to give it memory; with us it is a key of the agent."""
    memory, inner = entry.text("memory_name"), entry.text("inner_agent_name")
    for key in ("save_user_messages_to_memory", "save_ai_messages_to_memory",
                "retrieve_memory_for_every_response", "search_params", "add_params"):  # fmt: skip
        entry.moot(key, "nothing to set: facts are learned after each answer, recalled before")
    entry.moot("llm_name", "nothing to set: the inner agent's model answers")
    if inner is None or found(inner, house) != ("agents", inner):
        where = (*entry.where, "inner_agent_name")
        entry.written.tell(where, f'"{inner}" is no agent yet: add it', act=True)
        return None
    made = dict(house.agents[inner])
    if memory in house.memory:
        made["memory"] = [*made.get("memory", ()), memory]
    return made


def _langgraph(entry: Entry, house: House) -> dict[str, Any]:
    written = entry.text("graph") or "graph.py:graph"
    file, _, name = written.rpartition(":")
    entry.todo("dependencies", "install them beside kickwheel, or put them beside app.yml")
    entry.todo("env", "export these variables, or run kickwheel from a shell that has them")
    entry.written.tell(
        (*entry.where, "graph"), f"put {file} beside app.yml, or install its package", act=True
    )
    module = PurePosixPath(file).stem if file.endswith(".py") else file
    return {"kind": "langgraph", "object": f"{module}:{name}"}


def _loop(kind: str, entry: Entry, house: House, tools: str = "tool_names") -> dict[str, Any]:
    made: dict[str, Any] = {"kind": kind, "model": model(entry, house)}
    refer(entry, made, house, tools)
    calls = entry.number("max_tool_calls", "max_iterations")
    if calls is not None:
        # NAT counts calls of tools, we those of the model, which comes once more.
        made["max_steps"] = int(calls) + 1
    _lengthen(made, house)
    entry.moot("max_history", _HISTORY)
    return made


def _lengthen(made: dict[str, Any], house: House) -> None:
    if made["model"] in house.lengths:
        made["max_tokens"] = house.lengths[made["model"]]


def _instruct(made: dict[str, Any], *texts: object) -> None:
    said = "\n\n".join(str(text).strip() for text in texts if text not in (None, ""))
    if said:
        made["instructions"] = said


AGENTS: dict[str, Callable[[Entry, House], dict[str, Any] | None]] = {
    "react_agent": _react,
    "per_user_react_agent": _react,
    "tool_calling_agent": _tool_calling,
    "responses_api_agent": _responses,
    "rewoo_agent": _rewoo,
    "reasoning_agent": _reasoning,
    "router_agent": router,
    "sequential_executor": sequence,
    "parallel_executor": parallel,
    "chat_completion": _chat,
    "code_generation": _writer,
    "auto_memory_agent": _remembering,
    "langgraph_wrapper": _langgraph,
}
"""By NAT's type, how the agent is made."""
