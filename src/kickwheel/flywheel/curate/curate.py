"""The steps from traces to a dataset, in their order."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kickwheel.core import redact
from kickwheel.core.errors import DataError
from kickwheel.flywheel.curate import clean, duplicates, likeness
from kickwheel.flywheel.curate.cluster import Groups, join_templates, mask
from kickwheel.flywheel.curate.extract import Candidate, extract
from kickwheel.flywheel.curate.frame import Frame, frame
from kickwheel.flywheel.curate.kind import kinds, main
from kickwheel.flywheel.curate.normalise import normalise, plain, question
from kickwheel.flywheel.curate.pairs import Pairs
from kickwheel.flywheel.curate.split import HELD_BACK, Placed, Placing, place
from kickwheel.flywheel.curate.valid import invalid
from kickwheel.records import AnswerKind, Dataset, Dropped, Example, Step, ToolSpec, Trace, wire

PREFIX = 40
"""Characters of a conversation's beginning from which another that goes on from it belongs to it:
many begin with «hi»."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be decided about a dataset."""

    name: str
    """Whose traffic it is."""
    test: float = 0.2
    """Test questions: a whole number, or a share between 0 and 1."""
    validation: float = 0.15
    """Share of the rest that decides when to stop and which form of the prompt is best."""
    near: float = 0.8
    """Likeness from which two questions are near-duplicates, 0 to 1."""
    kind: AnswerKind | None = None
    """Only answers of this kind; by default of the most frequent."""
    prompts: tuple[str, ...] = ()
    """Prompts of the app and of the contestants: what they show is not tested."""
    few_shot: tuple[str, ...] = ()
    """Questions shown as examples, besides training questions: they are not tested."""
    agent: str | None = None
    """Whose answers are learned, where an agent worked for others; by default the root's."""
    pupils: tuple[str, ...] = ()
    """Models whose answers are learned only where somebody judged them good or corrected them:
    the specialist itself, lest it learns its own mistakes."""


WHOLE, CUT = "split by template", "split by near-duplicate"
"""How the last step of a dataset is called: whether templates stand on one side, or are cut."""


def curate(traces: Iterable[Trace], options: Options, previous: Dataset | None = None) -> Dataset:
    """The dataset that the traces make: the same for the same traces in any order.

    Args:
        previous: an earlier dataset of the same traffic; its questions stay on their sides.
    Raises:
        DataError: no trace is worth learning, or too few are for the test that is wanted.
    """
    work = _Work(options, previous)
    work.take_in(traces)
    work.choose_kind()
    work.validate()
    work.drop_exact()
    edges = work.drop_near()
    examples = work.split(edges)
    proof = clean.prove(
        examples,
        frame=work.frame,
        threshold=options.near,
        prompts=options.prompts,
        few_shot=options.few_shot,
    )
    return Dataset(
        name=options.name,
        examples=examples,
        steps=tuple(work.steps),
        dropped=tuple(work.dropped),
        cleanliness=proof,
    )


class _Work:
    """Candidates on their way through the steps, those to be kept first first."""

    def __init__(self, options: Options, previous: Dataset | None) -> None:
        self.options = options
        self.steps: list[Step] = []
        self.dropped: list[Dropped] = []
        self.candidates: list[Candidate] = []
        self.kinds: list[AnswerKind] = []
        self.questions: list[str] = []
        self.frame = Frame()
        before = previous.examples if previous is not None else ()
        self._earlier = {question(example.messages): example for example in before}
        self._known = {example.id for example in before}
        last = previous.steps[-1:] if previous is not None else ()
        self._cut_before = any(step.name == CUT for step in last)
        """Whether the earlier split cut through templates: their questions stand on both sides."""
        self._tools: dict[bytes, ToolSpec] = {}
        self._sets: dict[bytes, tuple[ToolSpec, ...]] = {}

    def take_in(self, traces: Iterable[Trace]) -> None:
        """Extracts, redacts and normalises, a trace at a time."""
        count = rewritten = 0
        dropped = []
        pupils = frozenset(self.options.pupils)
        for trace in traces:
            count += 1
            found = extract(redact.trace(trace), pupils, self.options.agent)
            if isinstance(found, str):
                dropped.append(Dropped(trace=trace.id, step="extract", reason=found))
                continue
            for candidate in found:
                normal = normalise(candidate)
                rewritten += normal is not candidate
                self.candidates.append(replace(normal, tools=self._shared(normal.tools)))
        self._order()
        self.steps.append(Step(name="traces", kept=count))
        self._step("extract", dropped)
        # Most was redacted when it was recorded, so what counts is what stands there now.
        told = zip(self.questions, map(_answer, self.candidates), strict=True)
        self._step("redact", [], sum(redact.redacted(f"{text} {answer}") for text, answer in told))
        self._step("normalise", [], rewritten)
        if not self.candidates:
            raise DataError(self._nothing())

    def _order(self) -> None:
        """Those to be kept come first: known questions, what people judged, the oldest."""
        asked = [(question(candidate.messages), candidate) for candidate in self.candidates]
        asked.sort(
            key=lambda pair: (
                pair[0] not in self._earlier,
                -pair[1].trust,
                pair[1].id not in self._known,
                pair[1].start_ns,
                pair[1].id,
            )
        )
        self.questions = [text for text, _ in asked]
        self.candidates = [candidate for _, candidate in asked]

    def choose_kind(self) -> None:
        """Keeps the answers of one kind, since they are judged in one way."""
        self.kinds = kinds(self.candidates)
        wanted = self.options.kind or main(self.kinds)
        self._drop(
            "kind",
            {
                i: f"the answer is {kind}, the dataset's are {wanted}"
                for i, kind in enumerate(self.kinds)
                if kind != wanted
            },
        )

    def validate(self) -> None:
        """Drops calls that do not fit the tools that were offered."""
        found = {i: invalid(candidate) for i, candidate in enumerate(self.candidates)}
        self._drop("schema", {i: why for i, why in found.items() if why is not None})

    def drop_exact(self) -> None:
        """Keeps one of each question."""
        keys = [
            (text, tuple(sorted(tool.name for tool in candidate.tools)))
            for text, candidate in zip(self.questions, self.candidates, strict=True)
        ]
        trust = [c.trust for c in self.candidates]
        answers = [_answer(c) for c in self.candidates]
        self._drop("exact duplicates", duplicates.exact(keys, answers, trust))

    def drop_near(self) -> list[tuple[int, int]]:
        """Keeps one of each near-duplicate with the same answer; the pairs that stay."""
        self.frame = frame(self.questions)
        answers = [
            None if kind == "text" else _answer(candidate)
            for kind, candidate in zip(self.kinds, self.candidates, strict=True)
        ]
        dropped, edges = duplicates.near(self._inside(), answers, self.options.near)
        stay = [i for i in range(len(self.candidates)) if i not in dropped]
        position = {i: new for new, i in enumerate(stay)}
        self._drop("near-duplicates", dropped)
        return [(position[i], position[j]) for i, j in edges]

    def split(self, edges: Sequence[tuple[int, int]]) -> tuple[Example, ...]:
        """Puts each template on one side."""
        groups = Groups(len(self.candidates))
        for i, j in edges:
            groups.join(i, j)
        self._join_conversations(groups)
        alone = groups.members()
        masked = [
            mask(text, candidate.answer, candidate.accepted)
            for text, candidate in zip(self._inside(), self.candidates, strict=True)
        ]
        join_templates(groups, masked)
        placings = self._placings()
        placed, by = self._place(placings, groups.members()), WHOLE
        few = placed.count("test") < placed.wanted / 2 or not placed.count("train")
        if few or self._cut_before:
            # Traffic of a few templates: no part of it is of other templates than the rest.
            placed, by = self._place(placings, alone), CUT
        self._unpin(placed)
        sides = zip(placed.split, placed.cluster, strict=True)
        kept = [side for i, side in enumerate(sides) if i not in placed.dropped]
        self._drop(by, placed.dropped)
        examples = [
            Example(
                id=candidate.id,
                messages=candidate.messages,
                tools=candidate.tools,
                answer=candidate.answer,
                accepted=candidate.accepted,
                kind=kind,
                split=split,
                cluster=cluster,
                source=candidate.source,
            )
            for candidate, kind, (split, cluster) in zip(
                self.candidates, self.kinds, kept, strict=True
            )
            if split is not None
        ]
        times = {candidate.id: candidate.start_ns for candidate in self.candidates}
        return tuple(sorted(examples, key=lambda e: (times[e.id], e.id)))

    def _place(self, placings: Sequence[Placing], groups: dict[int, list[int]]) -> Placed:
        test, count = self.options.test, len(placings)
        if isinstance(test, int) and test >= count:
            raise DataError(
                f"{test} test questions are wanted, and {count} examples are left after cleaning: "
                "nothing would remain to train on. Ask for a share, such as test: 0.2, or bring "
                f"more traffic.\n{self._told()}"
            )
        return place(placings, groups, test=test, validation=self.options.validation)

    def _placings(self) -> list[Placing]:
        inside = self._inside()
        shown = clean.prompted(inside, self._prompts(), self.options.near)
        if self.options.few_shot:
            given = [self.frame.inside(plain(text)) for text in self.options.few_shot]
            near = likeness.nearest(inside, given)
            shown = [max(a, b) for a, (_, b) in zip(shown, near, strict=True)]
        found = []
        for i, text in enumerate(self.questions):
            earlier = self._earlier.get(text)
            found.append(
                Placing(
                    question=text,
                    stratum=_stratum(self.candidates[i], self.kinds[i]),
                    pinned=None if earlier is None else earlier.split,
                    cluster=None if earlier is None else earlier.cluster,
                    seen=shown[i] >= self.options.near,
                )
            )
        return found

    def _inside(self) -> list[str]:
        return [self.frame.inside(text) for text in self.questions]

    def _prompts(self) -> list[str]:
        systems = {
            message.content
            for candidate in self.candidates
            for message in candidate.messages
            if message.role in ("system", "developer") and message.content
        }
        return [*self.options.prompts, *sorted(systems)]

    def _join_conversations(self, groups: Groups) -> None:
        """Turns of one conversation belong together: each shows those before it."""
        if all(m.role != "assistant" for c in self.candidates for m in c.messages):
            return
        turns: dict[str, int] = {}
        for i, candidate in enumerate(self.candidates):
            whole = question((*candidate.messages, candidate.answer))
            if len(self.questions[i]) >= PREFIX:
                turns.setdefault(whole, i)
        for i, candidate in enumerate(self.candidates):
            for end in range(1, len(candidate.messages)):
                if candidate.messages[end - 1].role == "assistant":
                    earlier = turns.get(question(candidate.messages[:end]))
                    if earlier is not None:
                        groups.join(i, earlier)

    def _unpin(self, placed: Placed) -> None:
        """Drops earlier training questions that are now near an earlier test question, as when
        near-duplicates were told from further away before."""
        if not self._earlier:
            return
        tested = [i for i, side in enumerate(placed.split) if side == "test"]
        pairs = Pairs(self._inside(), self.options.near)
        for i in tested:
            pairs.add(i)
        for i, side in enumerate(placed.split):
            if side in ("train", "validation") and pairs.like(i):
                placed.dropped[i] = HELD_BACK

    def _shared(self, tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
        # Every trace brings its own copy of the same few tools.
        if not tools:
            return ()
        written = [wire.to_bytes(tool) for tool in tools]
        whole = b"\n".join(written)
        if whole not in self._sets:
            self._sets[whole] = tuple(
                self._tools.setdefault(key, tool) for key, tool in zip(written, tools, strict=True)
            )
        return self._sets[whole]

    def _drop(self, step: str, reasons: dict[int, str]) -> None:
        gone = [
            Dropped(trace=self.candidates[i].source, step=step, reason=why)
            for i, why in reasons.items()
        ]
        stay = [i for i in range(len(self.candidates)) if i not in reasons]
        self.candidates = [self.candidates[i] for i in stay]
        self.kinds = [self.kinds[i] for i in stay]
        self.questions = [self.questions[i] for i in stay]
        self._step(step, gone)
        if not self.candidates:
            raise DataError(self._nothing())

    def _step(self, name: str, dropped: Sequence[Dropped], changed: int = 0) -> None:
        self.dropped.extend(sorted(dropped, key=lambda one: (one.trace, one.reason)))
        counted = Counter(one.reason for one in dropped)
        self.steps.append(
            Step(
                name=name,
                kept=len(self.candidates),
                dropped=dict(sorted(counted.items())),
                changed=changed,
            )
        )

    def _nothing(self) -> str:
        if not self.steps[0].kept:
            return (
                f"{self.options.name}: there are no traces to learn from. Import traffic, or serve "
                "some; traces count for the agent or workload that they name."
            )
        return f"{self.options.name}: no example is left to learn from.\n{self._told()}"

    def _told(self) -> str:
        lines = [f"{self.steps[0].kept} traces came in"]
        for step in self.steps:
            lines.extend(f"{n} dropped by {step.name}: {why}" for why, n in step.dropped.items())
        return "\n".join(lines)


def _answer(candidate: Candidate) -> str:
    answer = candidate.answer
    calls = "\n".join(f"{call.name} {call.arguments}" for call in answer.tool_calls)
    return plain(f"{answer.content or ''}\n{calls}")


def _stratum(candidate: Candidate, kind: AnswerKind) -> str:
    if kind == "call":
        return candidate.answer.tool_calls[0].name
    return candidate.answer.content or "" if kind == "label" else kind
