"""Puts the test questions to all contestants, in turn, and makes a Report of their answers.

Question by question, so that a load on the machine hits all alike; the order within a question
changes from one to the next. Each answer is written when it comes: killed and started again, an
evaluation asks only what is missing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kickwheel.core import redact
from kickwheel.core.errors import DataError, ModelError
from kickwheel.flywheel.evaluate import compare, contestants, machine, match
from kickwheel.flywheel.evaluate.answered import Answered, key
from kickwheel.flywheel.evaluate.contestants import Entrant
from kickwheel.flywheel.evaluate.judge import Opinion, calibrate, is_good
from kickwheel.flywheel.evaluate.retrieve import drawn, question
from kickwheel.models.chat import ChatRequest, Completion, Model, complete
from kickwheel.models.observed import cost_usd
from kickwheel.records import Agreement, Dataset, Example, Outcome, Report

ERRORS = 0.1
"""Share of unanswered questions above which a contestant's figures are not to be trusted."""

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Answers so far, answers in all, and who answered last."""


async def evaluate(
    dataset: Dataset,
    entrants: Sequence[Entrant],
    folder: Path,
    *,
    name: str = "",
    dataset_id: str = "",
    candidate: str = "specialist",
    adapter: str | None = None,
    incumbent: str | None = None,
    confidence: float = 0.95,
    concurrency: int = 1,
    judge: Model | None = None,
    opinions: Sequence[Opinion] = (),
    on_progress: Progress | None = None,
) -> Report:
    """The comparison of all contestants on the dataset's test questions.

    Args:
        dataset: its test part is asked, its training part is what few-shot examples come from.
        entrants: who competes; they see each question one after another.
        folder: where answers are kept as they come; give the same one to go on after a kill.
        name: of the report, for people.
        dataset_id: the dataset's id in the store.
        candidate: which contestant wants the place.
        adapter: id of the candidate's adapter.
        incumbent: what the ref names now, `adapter/<id>`.
        confidence: of all intervals.
        concurrency: questions under way at once; more than one is faster and makes latencies
            those of a busy machine, which the report says.
        judge: a model that judges free text.
        opinions: what people said of answers, to calibrate the judge.
        on_progress: called after each answer.
    Raises:
        DataError: the dataset has no test questions.
        UsageError: there is nobody to compare, or two have one name.
        EngineError: a model's server died for good; the answers so far are kept.
        StoreError: an answer cannot be written.
    """
    test = dataset.part("test")
    if not test:
        raise DataError(
            f"dataset {dataset.name} has no test questions: give curate a larger test part"
        )
    contestants.check(entrants, candidate)
    started, load = time.perf_counter(), machine.load()
    field = _Field(dataset, entrants, Answered(folder / "answers.jsonl"), judge, on_progress)
    await field.warm_up()
    await field.ask(concurrency)
    agreement = await _agreement(judge, opinions, confidence)
    facts = {
        **machine.facts(),
        "load_before": load,
        "load_after": machine.load(),
        "concurrency": concurrency,
    }
    report = compare.report(
        dataset,
        entrants,
        field.outcomes(),
        name=name or dataset.name,
        dataset_id=dataset_id,
        candidate=candidate,
        adapter=adapter,
        incumbent=incumbent,
        confidence=confidence,
        agreement=agreement,
        warnings=field.warnings(concurrency),
        machine_facts=facts,
    )
    # Of answers that an earlier run gave, only their own time is known.
    return replace(
        report, seconds={"evaluate": time.perf_counter() - started + field.seconds_before}
    )


class _Field:
    """All contestants, all questions, and the answers so far."""

    def __init__(
        self,
        dataset: Dataset,
        entrants: Sequence[Entrant],
        answered: Answered,
        judge: Model | None,
        on_progress: Progress | None,
    ) -> None:
        self._entrants = tuple(entrants)
        self._test = dataset.part("test")
        self._spare = (*dataset.part("validation"), *dataset.part("train"))[:1]
        self._answered = answered
        self._judge = judge
        self._on_progress = on_progress
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._missing: list[tuple[Example, list[tuple[Entrant, ChatRequest, str]]]] = []
        self._unjudged: list[tuple[Example, Entrant, str]] = []
        """Kept answers on which the judge has not yet said anything."""
        self.seconds_before = 0.0
        chosen = {e.name: {x.id for x in drawn(self._test, e.questions)} for e in self._entrants}
        for number, example in enumerate(self._test):
            todo = []
            turn = number % len(self._entrants)
            for entrant in (*self._entrants[turn:], *self._entrants[:turn]):
                if example.id not in chosen[entrant.name]:
                    continue
                request = entrant.ask(example)
                name = key(entrant, example.id, request, judge.name if judge else "")
                before = answered.get(name)
                if before is None:
                    todo.append((entrant, request, name))
                else:
                    self._outcomes[example.id, entrant.name] = before
                    if self._lacks_judgement(example, before):
                        self._unjudged.append((example, entrant, name))
                    self.seconds_before += before.latency_s
            self._missing.append((example, todo))
        self._total = len(self._outcomes) + sum(len(todo) for _, todo in self._missing)

    async def warm_up(self) -> None:
        """One question to each that still has to answer: not a test question, whose prompt an
        engine would remember. What fails here fails again where it counts."""
        waiting = {entrant.name for _, todo in self._missing for entrant, _, _ in todo}
        for entrant in self._entrants:
            for example in self._spare if entrant.name in waiting else ():
                try:
                    await _in_time(entrant.model, entrant.ask(example))
                except ModelError as error:
                    _log.warning("%s did not answer the warm-up: %s", entrant.name, error)

    async def ask(self, concurrency: int) -> None:
        """All that is missing, and the judge once more where it was silent."""
        for example, entrant, name in self._unjudged:
            before = self._outcomes[example.id, entrant.name]
            judged = replace(
                before, scores={**before.scores, **await self._opinion(example, before.answer)}
            )
            if judged != before:
                self._answered.add(name, judged)
                self._outcomes[example.id, entrant.name] = judged
        waiting = iter([(e, todo) for e, todo in self._missing if todo])

        async def work() -> None:
            for example, todo in waiting:
                for entrant, request, name in todo:
                    outcome = await self._answer(entrant, example, request)
                    self._answered.add(name, outcome)
                    self._outcomes[example.id, entrant.name] = outcome
                    if self._on_progress is not None:
                        self._on_progress(len(self._outcomes), self._total, entrant.name)

        await _all([work() for _ in range(max(1, concurrency))])

    def outcomes(self) -> list[Outcome]:
        """In the order of the questions, then of the contestants."""
        return [
            self._outcomes[example.id, entrant.name]
            for example in self._test
            for entrant in self._entrants
            if (example.id, entrant.name) in self._outcomes
        ]

    def warnings(self, concurrency: int) -> list[str]:
        """What a reader must know before believing the figures."""
        found = []
        for entrant in self._entrants:
            mine = [o for (_, name), o in self._outcomes.items() if name == entrant.name]
            failed = [o for o in mine if o.error is not None]
            if mine and len(failed) > ERRORS * len(mine):
                found.append(
                    f"{entrant.name} failed to answer {len(failed)} of {len(mine)} questions, "
                    f"which count as wrong: its figures say little about the model. "
                    f"First error: {failed[0].error}"
                )
        if concurrency > 1:
            found.append(
                f"{concurrency} questions were under way at once: latencies are those of a busy "
                "machine"
            )
        silent = sum(
            self._lacks_judgement(example, self._outcomes[example.id, entrant.name])
            for example in self._test
            for entrant in self._entrants
            if (example.id, entrant.name) in self._outcomes
        )
        if silent:
            found.append(
                f"the judge gave no verdict on {silent} answers, which its figures leave out; "
                "evaluated again, it is asked again"
            )
        for text in found:
            _log.warning(text)
        return found

    async def _answer(self, entrant: Entrant, example: Example, request: ChatRequest) -> Outcome:
        started = time.perf_counter()
        try:
            done = await _in_time(entrant.model, request)
        except ModelError as error:
            return self._failed(entrant, example, started, str(error))
        judged = match.judge(done.message, example, cut=done.finish_reason == "length")
        scores = dict(judged.scores)
        if self._judge is not None and example.kind == "text":
            scores.update(await self._opinion(example, match.shown(done.message)))
        return Outcome(
            example=example.id,
            contestant=entrant.name,
            answer=match.shown(done.message),
            right=judged.right,
            scores=scores,
            fault=judged.fault,
            detail=judged.detail,
            prompt_tokens=done.usage.prompt_tokens,
            output_tokens=done.usage.output_tokens,
            cached_tokens=done.usage.cached_tokens,
            latency_s=done.latency_s,
            first_s=done.first_s,
            cost_usd=cost_usd(entrant.model, done.usage),
        )

    def _failed(self, entrant: Entrant, example: Example, started: float, why: str) -> Outcome:
        nothing = match.nothing(example)
        scores = dict(nothing.scores)
        if self._judge is not None and example.kind == "text":
            scores["judge"] = 0.0
        return Outcome(
            example=example.id,
            contestant=entrant.name,
            answer="",
            right=False,
            scores=scores,
            fault=nothing.fault,
            latency_s=time.perf_counter() - started,
            error=redact.text(why),
        )

    def _lacks_judgement(self, example: Example, outcome: Outcome) -> bool:
        return self._judge is not None and example.kind == "text" and "judge" not in outcome.scores

    async def _opinion(self, example: Example, answer: str) -> dict[str, float]:
        """The judge's score of an answer; none where it says nothing."""
        assert self._judge is not None
        try:
            good = await is_good(
                self._judge,
                question=question(example),
                answer=answer,
                reference=example.answer.content or "",
            )
        except ModelError as error:
            _log.warning("%s", error)
            return {}
        return {"judge": float(good)}


async def _in_time(model: Model, request: ChatRequest) -> Completion:
    try:
        return await asyncio.wait_for(complete(model, request), request.timeout_s)
    except TimeoutError as error:
        raise ModelError(f"no answer in {request.timeout_s:g} s", status=504) from error


async def _all(work: Sequence[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _agreement(
    judge: Model | None, opinions: Sequence[Opinion], confidence: float
) -> Agreement | None:
    if judge is None:
        return None
    return await calibrate(judge, opinions, confidence)
