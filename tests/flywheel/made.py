"""A store with what a turn leaves behind, made by hand: no model is needed to move refs."""

from pathlib import Path

from kickwheel.core.store import Store
from kickwheel.flywheel.curate import save
from kickwheel.records import (
    Adapter,
    Cleanliness,
    Dataset,
    Dropped,
    Example,
    Feedback,
    Message,
    Outcome,
    Paired,
    PromptForm,
    Report,
    Span,
    Step,
    Trace,
    Verdict,
    wire,
)
from kickwheel.trace.store import Traces

APP = """
models:
  specialist: {kind: local, base: smollm2-135m, adapter: mine/specialist}
flywheel: {model: specialist}
"""

QUESTION = Message(role="user", content="where is my parcel?")
ANSWER = Message(role="assistant", content="shipping")


def app(folder: Path) -> Path:
    (folder / "app.yml").write_text(APP)
    return folder


def trace(number: int) -> Trace:
    span = Span(
        id=f"{number:016x}",
        kind="model",
        name="specialist",
        start_ns=number,
        end_ns=number + 5,
        input=(QUESTION,),
        output=(ANSWER,),
    )
    said = (Feedback(verdict="good", note="yes"),)
    return Trace(id=f"{number:032x}", workload="specialist", spans=(span,), feedback=said)


def dataset(store: Store) -> str:
    Traces(store).add([trace(1), trace(2)])
    example = Example(
        id="e1",
        messages=(QUESTION,),
        answer=ANSWER,
        kind="label",
        split="test",
        cluster="c",
        source=trace(1).id,
    )
    made = Dataset(
        name="mine/specialist",
        examples=(example,),
        steps=(Step(name="traces", kept=2),),
        dropped=(Dropped(trace=trace(2).id, step="exact duplicates", reason="stands twice"),),
        cleanliness=Cleanliness(tested=1, exact=0, near=0, threshold=0.8, overlaps=(), clean=True),
    )
    return store.artifacts.add("dataset", save(made))


def adapter(store: Store, of: str, seed: int) -> str:
    record = Adapter(
        base="smollm2-135m",
        base_sha256="0" * 64,
        dataset=of,
        form=PromptForm(tools="none"),
        config={"seed": seed},
    )
    files = {
        "adapter.json": wire.to_bytes(record),
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": b"weights",
        "adapter.gguf": b"weights",
    }
    return store.artifacts.add("adapter", files)


def report(
    store: Store, of: str, adapter: str, *, promoted: bool, incumbent: str | None = None
) -> str:
    paired = Paired(
        against="few-shot",
        metric="right",
        n=1,
        clusters=1,
        difference=0.1,
        low=0.05,
        high=0.15,
        wins=1,
        losses=0,
        p=1.0,
    )
    made = Report(
        name="mine/specialist",
        kind="label",
        dataset=of,
        adapter=adapter,
        incumbent=incumbent,
        candidate="specialist",
        contestants=(),
        paired=(paired,),
        outcomes=(Outcome(example="e1", contestant="specialist", answer="shipping", right=True),),
        cleanliness=Cleanliness(tested=1, exact=0, near=0, threshold=0.8, overlaps=(), clean=True),
        verdict=Verdict(promoted=promoted, against="few-shot", why="better by 10 points"),
        status="gated",
    )
    files = {"report.json": wire.to_bytes(made), "report.html": b"<html>"}
    return store.artifacts.add("report", files)
