"""The specialist and what it competes with, on one engine."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kickwheel.appfile import Evaluate
from kickwheel.flywheel import evaluate as evaluating
from kickwheel.flywheel.evaluate import Asking, Entrant, Opinion
from kickwheel.models.catalog import Base
from kickwheel.models.chat import Model
from kickwheel.models.engines.engine import open_engine
from kickwheel.records import Dataset, PromptForm, Report
from kickwheel.trace.store import Traces


async def contest(
    dataset: Dataset,
    base: Base,
    adapter: Path,
    incumbent: Path | None,
    work: Path,
    *,
    options: Evaluate,
    confidence: float,
    judge: Model | None,
    opinions: Sequence[Opinion],
    on_progress: Callable[[int, int, str], None],
) -> Report:
    """The report on an adapter beside its base, asked in two ways, and beside the incumbent.

    Args:
        adapter: folder of the candidate's adapter.
        incumbent: folder of the adapter at work now.
        work: where answers are kept as they come.
        opinions: what people said of answers, to calibrate the judge.
    """
    async with open_engine(base) as engine:
        # An engine remembers prompts: who is asked second with the same one would look fast.
        asking = Asking(dataset, extra={"cache_prompt": False})
        plain = await engine.model(None, base.name, PromptForm())
        tuned = await engine.model(adapter, "specialist")
        which = f"{base.sha256}:{adapter.name}"
        entrants: list[Entrant] = [
            evaluating.full_prompt(
                asking, plain, questions=options.full_prompt, identity=base.sha256
            ),
            evaluating.few_shot(asking, plain, k=options.shots, identity=base.sha256),
            evaluating.specialist(asking, tuned, identity=which),
            evaluating.specialist_free(asking, tuned, identity=which),
        ]
        if incumbent is not None:
            at_work = await engine.model(incumbent, "incumbent")
            entrants.append(
                evaluating.specialist(
                    asking, at_work, name="incumbent", identity=f"{base.sha256}:{incumbent.name}"
                )
            )
        return await evaluating.evaluate(
            dataset,
            entrants,
            work,
            confidence=confidence,
            judge=judge,
            opinions=opinions,
            on_progress=on_progress,
        )


def opinions(traces: Traces, workload: str | None) -> list[Opinion]:
    """What people said of answers in free text that were served here."""
    found = []
    for trace in traces.all(workload):
        asked = next((span for span in trace.spans if span.kind == "model"), trace.spans[0])
        if trace.source != "served" or not trace.feedback or not asked.input or not asked.output:
            continue
        said, answer = trace.feedback[-1], asked.output[-1].content
        if answer:
            found.append(
                Opinion(
                    question=asked.input[-1].content or "",
                    answer=answer,
                    reference=(said.answer.content or "") if said.answer else "",
                    good=said.verdict == "good",
                )
            )
    return found
