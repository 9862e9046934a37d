import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.flywheel.evaluate.made import (
    CITIES,
    Scripted,
    called,
    dataset,
    example,
    failing,
    knows,
    said,
    tables,
)

from kickwheel.core.errors import DataError, EngineError, StoreError, UsageError
from kickwheel.flywheel.evaluate import (
    Asking,
    Entrant,
    Opinion,
    evaluate,
    few_shot,
    full_prompt,
    specialist,
    specialist_free,
)
from kickwheel.flywheel.evaluate.answered import Answered
from kickwheel.models.chat import ChatRequest, Usage
from kickwheel.models.prices import Prices
from kickwheel.records import Dataset, Message, Outcome, Report, wire


def field(known: Dataset, **models: Scripted) -> list[Entrant]:
    asking = Asking(known)
    base = models.get("base") or Scripted("base", knows(known, lambda e: int(e.id[1:]) % 3 == 0))
    tuned = models.get("tuned") or Scripted("tuned", knows(known, lambda e: int(e.id[1:]) % 3 < 2))
    return [
        full_prompt(asking, base, questions=6),
        few_shot(asking, base),
        specialist(asking, tuned, identity="adapter-1"),
        specialist_free(asking, tuned, identity="adapter-1"),
    ]


async def test_each_contestant_is_measured_and_compared(tmp_path: Path) -> None:
    known = tables(test=12)
    report = await evaluate(known, field(known), tmp_path, adapter="a1", dataset_id="d1")
    by_name = {c.name: c for c in report.contestants}
    assert by_name["specialist"].rates["right"].right == 8
    assert by_name["specialist"].rates["right"].n == 12
    assert by_name["few-shot"].rates["right"].right == 4
    assert by_name["few-shot"].rates["right_tool"].right == 12
    assert by_name["full-prompt"].rates["right"].n == 6
    assert by_name["specialist"].role == "candidate"
    assert by_name["specialist"].faults == {"wrong string": 4}
    assert sum(r.n for r in by_name["specialist"].by_distance.values()) == 12
    pair = next(p for p in report.paired if (p.against, p.metric) == ("few-shot", "right"))
    assert (pair.wins, pair.losses, pair.n, pair.clusters) == (4, 0, 12, 6)
    assert pair.difference == pytest.approx(4 / 12)
    assert pair.p == pytest.approx(2 / 16)
    assert (report.kind, report.adapter, report.dataset) == ("call", "a1", "d1")
    assert report.machine["cores"] >= 1
    assert report.seconds["evaluate"] > 0
    assert report.warnings == ()
    assert wire.from_bytes(wire.to_bytes(report), Report) == report


async def test_a_wrong_answer_says_what_was_wrong(tmp_path: Path) -> None:
    known = tables(test=12)
    report = await evaluate(known, field(known), tmp_path)
    wrong = next(o for o in report.outcomes if o.contestant == "specialist" and not o.right)
    assert wrong.answer == 'book(city="Nowhere", seats=0)'
    assert 'city: "Nowhere", wanted "New York"' in wrong.detail
    question = next(q for q in report.questions if q.example == wrong.example)
    assert question.expected == 'book(city="New York", seats=3)'


def test_the_prompts_differ_in_what_they_hold() -> None:
    known = tables()
    test = known.part("test")[0]
    full, few, tuned, free = (entrant.ask(test) for entrant in field(known))
    assert full.form is not None
    assert full.form.tools == "full"
    assert few.form is not None
    assert few.form.tools == "none"
    assert [m.role for m in few.messages] == ["user", "assistant"] * 3 + ["user"]
    assert tuned.form is None
    assert len(tuned.messages) == 1
    assert [r.constrained for r in (full, few, tuned, free)] == [True, True, True, False]
    assert {r.tool_choice for r in (full, few, tuned)} == {"required"}
    assert {r.temperature for r in (full, few, tuned, free)} == {0.0}
    assert {r.max_tokens for r in (full, few, tuned, free)} == {256}


def test_no_test_or_validation_question_is_ever_an_example() -> None:
    known = tables(test=30, train=8)
    train = {e.messages[0].content for e in known.part("train")}
    for test in known.part("test"):
        shots = [m.content for m in field(known)[1].ask(test).messages[:-1] if m.role == "user"]
        assert len(shots) == 3
        assert set(shots) <= train


async def test_a_killed_evaluation_asks_only_what_is_missing(tmp_path: Path) -> None:
    known = tables(test=12)
    whole = await evaluate(known, field(known), tmp_path / "whole")
    stop_at = 17

    def stop(done: int, total: int, who: str) -> None:
        if done == stop_at:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        await evaluate(known, field(known), tmp_path / "cut", on_progress=stop)
    base = Scripted("base", knows(known, lambda e: int(e.id[1:]) % 3 == 0))
    tuned = Scripted("tuned", knows(known, lambda e: int(e.id[1:]) % 3 < 2))
    seen: list[int] = []
    again = await evaluate(
        known,
        field(known, base=base, tuned=tuned),
        tmp_path / "cut",
        on_progress=lambda done, total, who: seen.append(done),
    )
    assert seen == list(range(stop_at + 1, 6 + 3 * 12 + 1))
    warm_ups = 4
    assert len(base.asked) + len(tuned.asked) == len(seen) + warm_ups
    assert [(o.example, o.contestant, o.right) for o in again.outcomes] == [
        (o.example, o.contestant, o.right) for o in whole.outcomes
    ]


KILLED = """
import asyncio, os, sys
from pathlib import Path
from tests.flywheel.evaluate.made import Scripted, knows, tables
from kickwheel.flywheel.evaluate import Asking, evaluate, few_shot, specialist

known = tables(test=12)
asking = Asking(known)
entrants = [
    few_shot(asking, Scripted("base", knows(known, lambda e: False))),
    specialist(asking, Scripted("tuned", knows(known, lambda e: True))),
]
stop = int(sys.argv[2])


def step(done, total, who):
    if done == stop:
        os.kill(os.getpid(), 9)


report = asyncio.run(evaluate(known, entrants, Path(sys.argv[1]), on_progress=step))
print([outcome.right for outcome in report.outcomes])
"""


def test_killed_with_sigkill_again_and_again_it_ends_with_the_same_answers(
    tmp_path: Path,
) -> None:
    def run(folder: str, stop: int) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[3]
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / folder), str(stop)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )

    for stop in (3, 4, 17):
        assert run("cut", stop).returncode == -signal.SIGKILL
    assert len((tmp_path / "cut" / "answers.jsonl").read_text().splitlines()) == 17
    assert run("cut", 0).stdout == run("whole", 0).stdout == f"{[False, True] * 12}\n"


async def test_a_finished_evaluation_asks_nothing_again(tmp_path: Path) -> None:
    known = tables()
    first = await evaluate(known, field(known), tmp_path)
    silent = Scripted("base", failing())
    tuned = Scripted("tuned", failing())
    second = await evaluate(known, field(known, base=silent, tuned=tuned), tmp_path)
    assert silent.asked == tuned.asked == []
    assert second.outcomes == first.outcomes
    assert second.paired == first.paired


async def test_another_adapter_is_asked_anew(tmp_path: Path) -> None:
    known = tables()
    await evaluate(known, field(known), tmp_path)
    tuned = Scripted("tuned", knows(known, lambda e: True))
    asking = Asking(known)
    other = [
        few_shot(asking, Scripted("base", failing())),
        specialist(asking, tuned, identity="adapter-2"),
    ]
    report = await evaluate(known, other, tmp_path)
    assert report.contestants[1].rates["right"].share == 1.0
    assert report.contestants[0].errors == 0


async def test_half_a_line_of_a_killed_writer_is_asked_again(tmp_path: Path) -> None:
    known = tables()
    first = await evaluate(known, field(known), tmp_path)
    file = tmp_path / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    again = await evaluate(known, field(known), tmp_path)
    assert len(again.outcomes) == len(first.outcomes)
    third = await evaluate(known, field(known, base=Scripted("base", failing())), tmp_path)
    assert all(outcome.error is None for outcome in third.outcomes)
    assert all(json.loads(line) for line in file.read_text().splitlines())


async def test_contestants_take_turns_question_by_question(tmp_path: Path) -> None:
    known = tables()
    order: list[str] = []
    await evaluate(
        known,
        field(known)[1:],
        tmp_path,
        on_progress=lambda done, total, who: order.append(who),
    )
    rounds = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert all(set(one) == {"few-shot", "specialist", "specialist-free"} for one in rounds)
    assert len({one[0] for one in rounds}) == 3


async def test_the_warm_up_is_no_test_question(tmp_path: Path) -> None:
    known = tables()
    base = Scripted("base", knows(known, lambda e: True))
    await evaluate(known, field(known, base=base), tmp_path)
    test = {e.messages[0].content for e in known.part("test")}
    assert base.asked[0].messages[-1].content not in test


async def test_an_error_counts_as_wrong_and_many_are_said_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = tables(test=12)
    right = knows(known, lambda e: True)

    def shaky(request: ChatRequest) -> Message | Exception:
        return (
            failing()(request)
            if "Paris" in (request.messages[-1].content or "")
            else right(request)
        )

    with caplog.at_level(logging.WARNING):
        report = await evaluate(known, field(known, base=Scripted("base", shaky)), tmp_path)
    few = report.contestants[1]
    assert few.errors == 2
    assert few.rates["right"].right == 10
    assert few.faults == {"no answer": 2}
    assert "few-shot failed to answer 2 of 12 questions" in report.warnings[-1]
    assert "upstream is gone" in caplog.text


async def test_what_failed_is_asked_again_in_the_next_run(tmp_path: Path) -> None:
    known = tables()
    await evaluate(known, field(known, base=Scripted("base", failing())), tmp_path)
    report = await evaluate(known, field(known), tmp_path)
    assert report.contestants[1].errors == 0


async def test_a_model_that_hangs_is_an_error_after_its_time(tmp_path: Path) -> None:
    class Hangs(Scripted):
        async def stream(self, request: ChatRequest):  # type: ignore[no-untyped-def, override]
            await asyncio.sleep(60)
            yield

    known = tables(test=2)
    asking = Asking(known, timeout_s=0.05)
    entrants = [
        few_shot(asking, Hangs("base", failing())),
        specialist(asking, Scripted("tuned", knows(known, lambda e: True))),
    ]
    report = await evaluate(known, entrants, tmp_path)
    assert report.outcomes[0].error == "no answer in 0.05 s"


async def test_an_engine_that_died_for_good_stops_it_and_keeps_the_answers(tmp_path: Path) -> None:
    known = tables(test=12)
    right = knows(known, lambda e: True)

    def dies(request: ChatRequest) -> Message | Exception:
        late = "day 7" in (request.messages[-1].content or "")
        return EngineError("llama.cpp died 5 times") if late else right(request)

    with pytest.raises(EngineError):
        await evaluate(known, field(known, tuned=Scripted("tuned", dies)), tmp_path)
    kept = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(kept) >= 7 * 3


async def test_concurrency_is_faster_and_said(tmp_path: Path) -> None:
    known = tables(test=12)
    one = await evaluate(known, field(known), tmp_path / "1")
    four = await evaluate(known, field(known), tmp_path / "4", concurrency=4)
    assert "4 questions were under way at once" in four.warnings[0]
    assert [o.right for o in four.outcomes] == [o.right for o in one.outcomes]


async def test_the_same_questions_are_drawn_every_time(tmp_path: Path) -> None:
    known = tables(test=40)
    reports = [await evaluate(known, field(known), tmp_path / str(i)) for i in range(2)]
    drawn = [{o.example for o in r.outcomes if o.contestant == "full-prompt"} for r in reports]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 6
    assert drawn[0] != {e.id for e in known.part("test")[:6]}


async def test_costs_are_counted_where_prices_are_known(tmp_path: Path) -> None:
    known = tables(test=2)
    asking = Asking(known)

    class Priced(Scripted):
        def cost_usd(self, usage: Usage) -> float:
            return Prices(input=2.0, output=10.0, cached=0.5).cost_usd(usage)

    entrants = [
        few_shot(asking, Priced("base", knows(known, lambda e: True))),
        specialist(asking, Scripted("tuned", knows(known, lambda e: True))),
    ]
    report = await evaluate(known, entrants, tmp_path)
    # 70 prompt tokens of which 4 cached, 7 written.
    assert report.outcomes[0].cost_usd == pytest.approx((66 * 2 + 4 * 0.5 + 7 * 10) / 1e6)
    assert report.contestants[1].cost_usd is None


async def test_labels_are_offered_word_for_word_and_counted(tmp_path: Path) -> None:
    labels = ["billing", "Technical issue"]
    known = dataset(
        [
            example(
                n,
                f"message {n}",
                said(labels[n % 2]),
                kind="label",
                split="test" if n < 6 else "train",
                system="Say what it is about.",
            )
            for n in range(12)
        ]
    )
    tuned = Scripted("tuned", lambda request: said("technical  issue"))
    asking = Asking(known)
    entrants = [
        full_prompt(asking, Scripted("base", lambda r: said("no idea"))),
        specialist(asking, tuned),
    ]
    report = await evaluate(known, entrants, tmp_path)
    assert tuned.asked[-1].labels == ("Technical issue", "billing")
    assert report.kind == "label"
    assert report.contestants[1].rates["right"].right == 3
    assert report.contestants[0].faults == {"wrong label": 6}
    assert {q.label for q in report.questions} == set(labels)


async def test_json_is_scored_field_by_field_with_a_schema_of_the_training_answers(
    tmp_path: Path,
) -> None:
    known = dataset(
        [
            example(
                n,
                f"order {n}",
                said(json.dumps({"item": CITIES[n % 6], "amount": n + 0.5, "note": None})),
                kind="json",
                split="test" if n < 4 else "train",
            )
            for n in range(10)
        ]
    )
    tuned = Scripted("tuned", lambda r: said('{"item": "Paris", "amount": 0.5, "note": null}'))
    asking = Asking(known)
    entrants = [
        full_prompt(asking, Scripted("base", lambda r: said("sure!"))),
        specialist(asking, tuned),
    ]
    report = await evaluate(known, entrants, tmp_path)
    schema = tuned.asked[-1].json_schema
    assert schema is not None
    assert schema["required"] == ["item", "amount", "note"]
    assert schema["properties"]["amount"] == {"type": "number"}
    assert report.contestants[1].rates["right"].right == 1
    # one right whole, three with the note right only: (1 + 3/3) / 4
    assert report.contestants[1].means["fields"].value == pytest.approx(0.5)
    assert report.contestants[0].faults == {"no JSON": 4}


async def test_a_judge_is_reported_and_calibrated_against_people(tmp_path: Path) -> None:
    known = dataset(
        [
            example(
                n,
                f"why {n}",
                said("because of rain"),
                kind="text",
                split="test" if n < 4 else "train",
            )
            for n in range(6)
        ]
    )

    def judging(request: ChatRequest) -> Message:
        asked = request.messages[-1].content or ""
        return said("good" if "<<answer>>\nrain" in asked else "bad")

    judge = Scripted("judge", judging)
    opinions = [
        Opinion(question="why", answer="rain fell" if n % 2 else "snow", good=bool(n % 2))
        for n in range(40)
    ]
    asking = Asking(known)
    entrants = [
        full_prompt(asking, Scripted("base", lambda r: said("no idea"))),
        specialist(asking, Scripted("tuned", lambda r: said("rain, mostly"))),
    ]
    report = await evaluate(known, entrants, tmp_path, judge=judge, opinions=opinions)
    assert report.contestants[1].rates["judge"].right == 4
    assert report.contestants[0].rates["judge"].right == 0
    assert report.judge is not None
    assert report.judge.calibrated
    assert report.judge.agreed.right == 40
    assert judge.asked[0].labels == ("good", "bad")


async def test_a_judge_that_was_silent_is_asked_again_and_counts_for_nobody(
    tmp_path: Path,
) -> None:
    known = dataset(
        [
            example(n, f"why {n}", said("rain"), kind="text", split="test" if n < 4 else "train")
            for n in range(6)
        ]
    )
    asking = Asking(known)
    base = Scripted("base", lambda r: said("no idea"))
    tuned = Scripted("tuned", lambda r: said("rain, mostly"))
    entrants = [full_prompt(asking, base), specialist(asking, tuned)]

    def judging(request: ChatRequest) -> Message:
        asked = request.messages[-1].content or ""
        return said("good" if "<<answer>>\nrain" in asked else "bad")

    def sometimes(request: ChatRequest) -> Message:
        asked = request.messages[-1].content or ""
        return said("who knows") if "why 2" in asked else judging(request)

    first = await evaluate(known, entrants, tmp_path, judge=Scripted("judge", sometimes))
    assert [c.rates["judge"].n for c in first.contestants] == [3, 3]
    assert [c.rates["judge"].right for c in first.contestants] == [0, 3]
    assert "no verdict on 2 answers, which its figures leave out" in first.warnings[0]

    # Still silent, it is still told, though no contestant is asked any more.
    answers = len(base.asked), len(tuned.asked)
    still = await evaluate(known, entrants, tmp_path, judge=Scripted("judge", sometimes))
    assert still.warnings == first.warnings

    judge = Scripted("judge", judging)
    whole = await evaluate(known, entrants, tmp_path, judge=judge)
    assert [c.rates["judge"].right for c in whole.contestants] == [0, 4]
    assert whole.warnings == ()
    assert len(judge.asked) == 2
    assert (len(base.asked), len(tuned.asked)) == answers
    again = await evaluate(known, entrants, tmp_path, judge=judge)
    assert (again.outcomes, len(judge.asked)) == (whole.outcomes, 2)


async def test_what_makes_no_comparison_is_refused(tmp_path: Path) -> None:
    known = tables()
    with pytest.raises(UsageError, match="at least two"):
        await evaluate(known, field(known)[2:3], tmp_path)
    with pytest.raises(UsageError, match='no contestant is named "specialist"'):
        await evaluate(known, field(known)[:2], tmp_path)
    with pytest.raises(UsageError, match="two contestants are named"):
        await evaluate(known, [*field(known), field(known)[0]], tmp_path)
    with pytest.raises(DataError, match="no test questions"):
        await evaluate(tables(test=0), field(known), tmp_path)


def test_a_full_disk_is_said_and_the_answers_before_it_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answered = Answered(file)
    outcome = Outcome(example="e", contestant="c", answer="a", right=True)
    answered.add("one", outcome)
    # /dev/full takes no byte, as a full disk does.
    kept = file.rename(tmp_path / "kept.jsonl")
    file.symlink_to("/dev/full")
    with pytest.raises(StoreError, match="disk is full"):
        answered.add("two", outcome)
    assert Answered(kept).get("one") == outcome


def test_examples_are_retrieved_by_likeness_and_offered_tool() -> None:
    known = tables(test=1, train=14)
    (asked,) = known.part("test")
    shots = [m.content or "" for m in field(known)[1].ask(asked).messages[:-1] if m.role == "user"]
    # The nearest stands last, right before the question.
    assert "Paris" in shots[-1]

    foreign = example(
        90, asked.messages[0].content or "", called("fly"), split="train", tools=asked.tools
    )
    both = dataset([*known.examples, foreign])
    shots = [m.content or "" for m in field(both)[1].ask(asked).messages[:-1] if m.role == "user"]
    assert foreign.messages[0].content not in shots


def test_a_remote_protocol_gets_results_after_example_calls() -> None:
    known = tables()
    entrant = few_shot(Asking(known), Scripted("base", failing()), k=1, acknowledge="done")
    roles = [m.role for m in entrant.ask(known.part("test")[0]).messages]
    assert roles == ["user", "assistant", "tool", "user"]
