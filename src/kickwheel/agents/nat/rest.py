"""The sections of a NAT file around its models, functions and workflow."""

from typing import Any

from kickwheel.agents.nat.house import House
from kickwheel.agents.nat.written import Entry, Written

_TRACES = (
    "traces are kept in the app's store, and sent to any collector that takes OTLP: "
    "trace: {export: {url: …, headers: {…}}}"
)
_COLLECTORS = ("phoenix", "otelcollector")
"""Exporters of NAT that send OTLP to an address and show no key."""
_LOG = "the log goes to standard error; keep it by the means of your system"
_SECTIONS = {
    "embedders": "nothing of ours searches documents by meaning yet, and what else needs "
    "embeddings brings its own (pip install 'kickwheel[curate]')",
    "retrievers": "nothing of ours searches documents by meaning yet: put the search behind an "
    "address (tools: kind http) or bring its client in as a function (kind: python)",
    "object_stores": "files for agents are a folder, tools: {NAME: {kind: files, root: …}}; what "
    "the app keeps is in its store",
    "ttc_strategies": "ask several times and take what most say: agents: {NAME: {kind: vote, …}}",
    "middleware": "limits stand at each tool (timeout_s, tries, confirm, result_chars), caches and "
    "budgets around a model (models: kind cache, budget, fallback)",
    "authentication": "the app's callers show a key (serve.auth); what its tools must show stands "
    "at each tool (auth, headers, as_caller)",
    "trainers": "a flywheel section tunes a model on the app's traffic: kickwheel turn",
    "trainer_adapters": "a flywheel section tunes a model on the app's traffic: kickwheel turn",
    "trajectory_builders": "traces are the trajectories: kickwheel curate makes examples of them",
}


def memories(written: Written, house: House) -> None:
    """Memories of any service become the one that needs none."""
    for entry in written.section("memory").entries():
        kind = entry.type
        house.memory[entry.name] = {"kind": "facts"}
        entry.rest(f"nothing to set: facts are kept in the app's store, not by {kind}", act=False)
        written.tell(
            entry.where,
            f"what {kind} knows already stays there: facts begin empty, and are learned anew",
            act=False,
        )


def general(written: Written) -> dict[str, Any]:
    """The sections `serve` and `trace` that NAT's front end and telemetry become."""
    section = written.section("general")
    section.moot("use_uvloop", "nothing to set: taken where it is installed (kickwheel[all])")
    for key in ("per_user_workflow_timeout", "per_user_workflow_cleanup_interval",
                "enable_per_user_monitoring"):  # fmt: skip
        section.moot(key, "nothing to set: all callers share one app, which knows them apart")
    serve = _front(section.entry("front_end"))
    telemetry = section.entry("telemetry")
    trace: dict[str, Any] = {}
    for log in telemetry.entry("logging").entries():
        log.whole(_LOG, act=False)
    for export in telemetry.entry("tracing").entries():
        url = export.take_raw("endpoint") if export.type in _COLLECTORS and not trace else None
        if isinstance(url, str) and url:
            trace = {"export": {"url": url.removesuffix("/").removesuffix("/v1/traces")}}
            export.moot("project", "traces have the app's name")
            export.rest("nothing to set: traces are sent in the background", act=False)
        else:
            export.whole(_TRACES)
    telemetry.rest(_TRACES)
    for entry in section.entry("logging").entries():
        entry.whole(_LOG, act=False)
    section.rest("the app file has no such option")
    return {"serve": serve, "trace": trace}


def others(written: Written) -> None:
    """All sections that nothing is made of."""
    for name, what in _SECTIONS.items():
        for entry in written.section(name).entries():
            entry.whole(what)
    _evaluated(written)
    tuned = written.section("optimizer")
    if tuned.data:
        tuned.whole("nothing here searches for better prompts or values: traffic tunes a model "
                    "instead (flywheel), which must prove itself")  # fmt: skip
    finetuning = written.section("finetuning")
    if finetuning.data:
        finetuning.whole("a flywheel section tunes a model on the app's traffic: kickwheel turn")


def _front(front: Entry) -> dict[str, Any]:
    if not front.data:
        return {}
    kind = front.type
    made: dict[str, Any] = {}
    if kind == "fastapi":
        host, port = front.text("host"), front.number("port")
        if host and host != "localhost":
            made["host"] = host
        if port:
            made["port"] = int(port)
        front.todo("workers", "kickwheel serve --workers N")
        front.todo("endpoints", "agents are asked at /v1/chat/completions, by their names")
        front.todo("workflow", "agents are asked at /v1/chat/completions, by their names")
        front.todo("evaluate", "kickwheel evaluate compares models; nothing is evaluated by HTTP")
        front.todo("cors", "browsers reach the server through the proxy that lets them")
        front.todo("object_store", "files are sent to /v1/files")
        front.rest("the server has no such option")
        return made
    what = {
        "console": "kickwheel run and kickwheel chat ask on a terminal",
        "mcp": "kickwheel mcp serves the app's tools and agents on stdio, kickwheel serve at /mcp",
        "fastmcp": "kickwheel mcp serves them on stdio, kickwheel serve at /mcp",
        "a2a": "kickwheel serve is an A2A agent, too",
    }.get(kind, f'the front end "{kind}" has no counterpart: kickwheel serve answers over HTTP')
    front.whole(what, act=kind not in ("console", "mcp", "fastmcp", "a2a"))
    return made


def _evaluated(written: Written) -> None:
    section = written.section("eval")
    general = section.entry("general")
    dataset = general.entry("dataset")
    if dataset.data:
        dataset.whole(
            'write each row as a line {"messages": [the question, the answer]} and import it: '
            "kickwheel import; kickwheel evaluate asks its unseen part"
        )
    general.rest("nothing to set: reports are kept in the app's store", act=False)
    for evaluator in section.entry("evaluators").entries():
        evaluator.whole(
            "calls, JSON and labels are compared as they are, free text by likeness or by a judge: "
            "flywheel: {evaluate: {judge: MODEL}}"
        )
    section.rest("kickwheel evaluate has no such option")
