"""What is wrong with a file beside the types of its keys: names that name nothing, traffic that is
not there, a gate that asks for what nothing measures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from kickwheel.core.config import Document
from kickwheel.core.errors import ConfigError, DataError, Mistake
from kickwheel.core.plugins import nearest
from kickwheel.trace import chatlog

FITS = {
    "right_call": "call",
    "right_tool": "call",
    "fields": "json",
    "similarity": "text",
    "judge": "text",
}
"""Metrics that only answers of one kind have."""
TUNED = ("local", "vllm")
"""Kinds of models that adapters are made for."""
LOOKED_AT = 100
"""Lines of declared traffic that are looked at to know the kind of its answers."""
_NAT = ("workflow", "llms", "functions", "function_groups")
"""Sections of a NeMo Agent Toolkit workflow, whose names no app file has."""


def check_ours(document: Document) -> None:
    """Looks whether the file means to be an app file at all.

    Raises:
        ConfigError: it is a workflow of NVIDIA's NeMo Agent Toolkit.
    """
    section = next((name for name in document.data if name in _NAT), None)
    if section is None or document.data.keys() & {"models", "tools", "agents"}:
        return
    what = (
        "this is a workflow of NeMo Agent Toolkit, and no app file: "
        f"`kickwheel import-nat {quote(str(document.file))}` makes one of it"
    )
    raise ConfigError([document.mistake((section,), what)])


def check_loop(document: Document, mistakes: list[Mistake]) -> None:
    """Adds what is wrong with the file's flywheel beside its types: names that name nothing,
    traffic that is not there, a metric that the traffic's answers do not have."""
    loop = document.data.get("flywheel")
    if not isinstance(loop, Mapping):
        return
    judging = loop.get("evaluate")
    judge = judging.get("judge") if isinstance(judging, Mapping) else None
    for key, shelf, wanted in (
        (("model",), "models", loop.get("model")),
        (("agent",), "agents", loop.get("agent")),
        (("evaluate", "judge"), "models", judge),
    ):
        named = document.data.get(shelf) or {}
        if isinstance(wanted, str) and wanted not in named:
            what = f'no {shelf[:-1]} named "{wanted}". {nearest(wanted, named)}'
            mistakes.append(document.mistake(("flywheel", *key), what))
    files = _traffic(document, loop, mistakes)
    _check_tuned(document, loop, mistakes)
    for rule, what in _unmeasured(loop, files):
        mistakes.append(document.mistake(("flywheel", "gate", rule), what))


def check_record(document: Document, mistakes: list[Mistake]) -> None:
    """Adds what is wrong with the upstream that recorded traffic is to go to."""
    serve = document.data.get("serve")
    wanted = serve.get("record") if isinstance(serve, Mapping) else None
    if not isinstance(wanted, str):
        return
    models = document.data.get("models") or {}
    entry = models.get(wanted)
    where = ("serve", "record")
    if entry is None:
        what = f'no model named "{wanted}". {nearest(wanted, models)}'
        mistakes.append(document.mistake(where, what))
    elif isinstance(entry, Mapping) and entry.get("kind") != "openai":
        what = f"models.{wanted} is of kind {entry.get('kind')}; traffic goes to kind openai only"
        mistakes.append(document.mistake(where, what))


def check_offer(document: Document, mistakes: list[Mistake]) -> None:
    """Adds the names under `serve.mcp.offer` that name neither an agent nor tools."""
    serve = document.data.get("serve")
    section = serve.get("mcp") if isinstance(serve, Mapping) else None
    names = section.get("offer") if isinstance(section, Mapping) else None
    known = [*(document.data.get("agents") or ()), *(document.data.get("tools") or ())]
    for position, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and name not in known:
            what = f'no agent or tools named "{name}". {nearest(name, known)}'
            mistakes.append(document.mistake(("serve", "mcp", "offer", position), what))


def _traffic(document: Document, loop: Mapping[str, Any], mistakes: list[Mistake]) -> list[Path]:
    """The files of the flywheel's traffic that are there."""
    files = []
    traffic = loop.get("traffic")
    for position, entry in enumerate(traffic if isinstance(traffic, list) else ()):
        file = document.file.parent / str(entry)
        if file.is_file():
            files.append(file)
        elif ":" not in str(entry):
            what = f"there is no file {file}"
            mistakes.append(document.mistake(("flywheel", "traffic", position), what))
    return files


def _check_tuned(document: Document, loop: Mapping[str, Any], mistakes: list[Mistake]) -> None:
    """Adds why the flywheel's model cannot be tuned."""
    name = str(loop.get("model"))
    model = (document.data.get("models") or {}).get(name)
    told = any(m.where.startswith(f"models.{name}") for m in mistakes)
    if isinstance(model, Mapping) and not model.get("adapter") and not told:
        what = f'has no "adapter": name the ref that a promotion moves, like app/{name}'
        kind = str(model.get("kind"))
        if kind not in TUNED and ":" not in kind:
            what = f"cannot be tuned: it is of kind {kind}. Name one of kind {' or '.join(TUNED)}"
        mistakes.append(document.mistake(("models", name), what))


def _unmeasured(loop: Mapping[str, Any], files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Keys of the gate that ask for what no report on this traffic will measure, and why."""
    gate, measured = loop.get("gate"), loop.get("evaluate")
    gate = gate if isinstance(gate, Mapping) else {}
    measured = measured if isinstance(measured, Mapping) else {}
    if gate.get("against") == "full-prompt" and measured.get("full_prompt") == 0:
        yield "against", "full-prompt is not asked: evaluate.full_prompt is 0"
    metric = str(gate.get("metric"))
    if metric == "judge" and not measured.get("judge"):
        yield "metric", "judge needs a model that judges: name it in evaluate.judge"
    found = {kind for file in files for kind in _kinds(file)} if metric in FITS else set()
    # A dataset has the kind of most of its answers, which shows from here where all are alike.
    if len(found) == 1 and FITS[metric] not in found:
        (kind,) = found
        answers = {"call": "calls", "json": "JSON", "text": "labels or text"}[kind]
        yield "metric", f'the answers of {files[0].name} are {answers}, which have no "{metric}"'


def _kinds(traffic: Path) -> Iterator[Literal["call", "json", "text"]]:
    """The kinds of the file's first answers, as curation would tell them."""
    try:
        for answer in islice(chatlog.answers(traffic), LOOKED_AT):
            if answer.tool_calls:
                yield "call"
                continue
            try:
                value = json.loads(answer.content or "")
            except ValueError:
                value = None
            yield "json" if isinstance(value, dict | list) else "text"
    except DataError:
        return
