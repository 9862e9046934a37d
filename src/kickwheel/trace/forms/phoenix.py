"""Phoenix's exports:

    spans        of `get_spans_dataframe()` (`to_json`, `to_csv`: columns `context.span_id`,
                 `attributes.llm.input_messages`, …), of `get_spans` and `GET /v1/projects/…/spans`
                 (`context: {trace_id, span_id}`, `attributes`)
    annotations  of `get_span_annotations` and its dataframe: a label such as `correct` or
                 `thumbs-down` is a verdict; other labels, scores and explanations are attributes
                 `phoenix.annotation.<name>`

Annotations name a span and no trace, so they stand in one file with their spans.

Source: `arize-phoenix-client` 3.5.0, `phoenix/client/__generated__/v1` (`Span`, `SpanContext`,
`SpanAnnotation`, `AnnotationResult`) and `resources/spans` (columns of the dataframe).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kickwheel.records import Feedback, Span
from kickwheel.trace import openinference
from kickwheel.trace.forms.form import (
    Piece,
    Remark,
    amount,
    loaded,
    mapping,
    span_id,
    text,
    time_ns,
    trace_id,
)
from kickwheel.trace.forms.rows import Row

_GOOD = {"correct", "good", "positive", "thumbs-up", "thumbs_up", "thumbs up", "up", "👍", "pass"}
_BAD = {"incorrect", "bad", "negative", "thumbs-down", "thumbs_down", "thumbs down", "down", "👎",
        "fail"}  # fmt: skip
_OWN = "attributes."


class Phoenix:
    """Phoenix's spans and annotations."""

    name = "phoenix"
    about = "Phoenix's exports of spans and annotations"
    grouped = True

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether the keys are those of a span or an annotation as Phoenix exports them."""
        keys = entry.keys()
        return (
            {"context.trace_id", "span_kind"} <= keys
            or {"context", "span_kind"} <= keys
            or ({"annotator_kind"} <= keys and bool({"span_id", "result"} & keys))
        )

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece | Remark]:
        """What a span or an annotation says."""
        if "annotator_kind" in entry:
            return [_annotation(entry)]
        return [_span(entry)]


def _span(entry: Mapping[str, Any]) -> Piece:
    context = entry.get("context")
    if isinstance(context, Mapping):
        ids = context
    else:
        ids = {key: entry.get(f"context.{key}") for key in ("trace_id", "span_id")}
    if not ids.get("span_id"):
        raise ValueError("context.span_id is missing: write the dataframe with its index")
    trace, identity = text(ids, "trace_id"), text(ids, "span_id")
    start_ns = time_ns(entry.get("start_time"), "start_time")
    if not start_ns:
        raise ValueError("start_time is missing")
    name = str(entry.get("name") or "span")
    written = loaded(entry.get("attributes"))
    found = dict(written) if isinstance(written, Mapping) else {}
    for key, value in entry.items():
        # A dataframe has a column for each attribute of any span; most are empty.
        if key.startswith(_OWN) and value not in (None, ""):
            found[key.removeprefix(_OWN)] = loaded(value)
    told = openinference.told(found, name, str(entry.get("span_kind") or "") or None)
    parent = entry.get("parent_id")
    failed = str(entry.get("status_code") or "").upper() == "ERROR"
    span = Span(
        id=span_id(identity),
        parent=span_id(parent) if isinstance(parent, str) and parent else None,
        kind=told.kind,
        name=name,
        start_ns=start_ns,
        end_ns=max(start_ns, time_ns(entry.get("end_time"), "end_time")),
        attributes=told.attributes,
        error=str(entry.get("status_message") or "failed") if failed else None,
        input=told.input,
        output=told.output,
        tools=told.tools,
    )
    return Piece(trace=trace_id(trace), spans=(span,), names=(identity,))


def _annotation(entry: Mapping[str, Any]) -> Remark:
    about, name = text(entry, "span_id"), str(entry.get("name") or entry.get("annotation_name"))
    result = loaded(entry.get("result"))
    flat = {key: entry.get(f"result.{key}") for key in ("label", "score", "explanation")}
    said = mapping(result, "result") if result not in (None, "") else flat
    label, why = said.get("label"), said.get("explanation")
    when = time_ns(entry.get("updated_at") or entry.get("created_at"))
    verdict: Literal["good", "bad"] | None = None
    if isinstance(label, str):
        low = label.strip().lower()
        verdict = "good" if low in _GOOD else "bad" if low in _BAD else None
    if verdict is not None:
        note = f"{name}: {why}" if why else name
        feedback = Feedback(verdict=verdict, note=note, time_ns=when)
        return Remark(about=about, feedback=feedback)
    noted = {
        f"phoenix.annotation.{name}": label or None,
        f"phoenix.annotation.{name}.score": amount(said.get("score")),
        f"phoenix.annotation.{name}.explanation": why or None,
    }
    kept = {key: value for key, value in noted.items() if isinstance(value, str | float)}
    if not kept:
        raise ValueError(f'the annotation "{name}" has neither label, score nor explanation')
    return Remark(about=about, attributes=kept)
