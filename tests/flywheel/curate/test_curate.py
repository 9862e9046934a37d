"""From traces to a dataset, through `curate`."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import DataError
from kickwheel.flywheel.curate import Options, curate, load, save
from kickwheel.flywheel.curate.likeness import likeness
from kickwheel.flywheel.curate.normalise import plain, question
from kickwheel.records import (
    AcceptedCall,
    Dataset,
    Feedback,
    Image,
    Message,
    Span,
    ToolCall,
    Trace,
    genai,
    wire,
)
from tests.flywheel.curate.traffic import FIND, called, said, told, trace
from tests.support_tickets import tickets

OPTIONS = Options(name="test")
BROKEN = ToolCall(id="c", name="find", arguments='{"what": ')

nouns = st.sampled_from(
    ["a taxi", "pizza", "an old castle", "the night bus", "some jazz", "a dentist"]
)
cities = st.sampled_from(["Napa", "Oakland", "San Jose", "Paris", "Oslo", "Kyoto"])
forms = st.sampled_from(
    [
        "Find me {noun} in {city}", "find me {noun} in {city}!", "I need {noun} for {n} in {city}",
        "Where do I get {noun}?", "{city}: {noun}, {n} people, as soon as you can please",
        "My sister visits {city} on day {n} and would love {noun}",
    ]
)  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> Trace:
    noun, city, number = draw(nouns), draw(cities), draw(st.integers(1, 12))
    text = draw(forms).format(noun=noun, city=city, n=number)
    return trace(text, called(what=noun, city=city), start_ns=draw(st.integers(0, 5)))


traffic = st.lists(questions(), min_size=8, max_size=60)


def sides(dataset: Dataset) -> dict[str, str]:
    return {question(example.messages): example.split for example in dataset.examples}


@settings(max_examples=60, deadline=None)
@given(traffic)
def test_a_question_never_stands_on_two_sides(traces: list[Trace]) -> None:
    dataset = curate(traces, OPTIONS)
    assert len({(question(e.messages), e.split) for e in dataset.examples}) == len(sides(dataset))
    placed = {(example.cluster, example.split) for example in dataset.examples}
    assert len(placed) == len({cluster for cluster, _ in placed})


@settings(max_examples=60, deadline=None)
@given(traffic)
def test_no_near_duplicate_stands_on_two_sides(traces: list[Trace]) -> None:
    dataset = curate(traces, OPTIONS)
    for tested in dataset.part("test"):
        for other in dataset.examples:
            if other.split != "test":
                alike = likeness(question(tested.messages), question(other.messages))
                assert alike < OPTIONS.near
    assert dataset.cleanliness.clean


@settings(max_examples=40, deadline=None)
@given(traffic, st.randoms(use_true_random=False))
def test_the_order_of_the_traces_changes_nothing(
    traces: list[Trace], chosen: random.Random
) -> None:
    shuffled = list(traces)
    chosen.shuffle(shuffled)
    assert wire.to_bytes(curate(traces, OPTIONS)) == wire.to_bytes(curate(shuffled, OPTIONS))


@settings(max_examples=60, deadline=None)
@given(traffic, traffic, st.sampled_from([0.2, 2]))
def test_more_traffic_moves_no_question(
    before: list[Trace], more: list[Trace], test: float
) -> None:
    options = Options(name="test", test=test)
    try:
        first = curate(before, options)
        second = curate([*before, *more], options, first)
    except DataError:
        return
    earlier, later = sides(first), sides(second)
    for text, side in earlier.items():
        assert later.get(text, side) == side
    for text, side in earlier.items():
        if side == "test":
            assert text in later
    assert second.cleanliness.clean


@settings(max_examples=60, deadline=None)
@given(traffic, st.sampled_from([0.2, 2]))
def test_the_same_traffic_again_makes_the_same_dataset(traces: list[Trace], test: float) -> None:
    options = Options(name="test", test=test)
    try:
        first = curate(traces, options)
    except DataError:
        return
    assert wire.to_bytes(curate(traces, options, first)) == wire.to_bytes(first)


@settings(max_examples=60, deadline=None)
@given(traffic)
def test_of_each_question_one_stays_and_every_trace_is_accounted_for(traces: list[Trace]) -> None:
    dataset = curate(traces, OPTIONS)
    asked = {plain(t.spans[0].input[0].content or "") for t in traces}
    kept = set(sides(dataset))
    assert kept <= asked
    near = {d.trace for d in dataset.dropped if d.step == "near-duplicates"}
    by_id = {t.id: plain(t.spans[0].input[0].content or "") for t in traces}
    assert asked - kept <= {by_id[identity] for identity in near}
    for text in asked - kept:
        assert max(likeness(text, other) for other in kept) >= OPTIONS.near
    assert len(dataset.examples) + len(dataset.dropped) == len(traces)


def test_the_steps_say_what_they_dropped_and_why() -> None:
    good = [trace(f"Where is the {word}?", called(what=word)) for word in WORDS]
    bad = [
        trace("a", None),
        trace("b", called(what="x"), error="timeout"),
        trace("c", called(what="x"), finish="length"),
        trace("d", called(what="x"), Feedback(verdict="bad")),
        trace("e", called("fly", what="x")),
        trace("f", called(what=7)),
        trace("g", called(city="Oslo")),
        trace("h", told("hello")),
        trace("i", Message(role="assistant", tool_calls=(BROKEN,))),
        trace("Where is the MUSEUM?", called(what="museum"), start_ns=9),
    ]
    dataset = curate([*good, *bad], OPTIONS)
    told_of = {step.name: dict(step.dropped) for step in dataset.steps if step.dropped}
    assert told_of == {
        "extract": {
            "cut at its length": 1,
            "judged bad, and no right answer given": 1,
            "no answer": 1,
            "the request failed": 1,
        },
        "kind": {"the answer is text, the dataset's are call": 1},
        "schema": {
            "a tool that was not offered": 1,
            "arguments are no JSON": 1,
            "arguments break the tool's schema": 2,
        },
        "exact duplicates": {"asked again": 1},
    }
    assert {d.trace for d in dataset.dropped} == {t.id for t in bad}
    assert [step.kept for step in dataset.steps[:2]] == [len(good) + 10, len(good) + 6]


def test_the_corrected_answer_is_learned() -> None:
    wrong = trace("Find a cinema", called(what="theatre"))
    for right in (
        Feedback(verdict="bad", answer=called(what="cinema")),
        Feedback(
            verdict="bad", accepted=(AcceptedCall(name="find", arguments={"what": ("cinema",)}),)
        ),
    ):
        said_of = Trace(id=wrong.id, workload="w", spans=wrong.spans, feedback=(right,))
        (example,) = curate([said_of], OPTIONS).examples
        assert json.loads(example.answer.tool_calls[0].arguments) == {"what": "cinema"}


def test_an_answer_that_people_judged_wins_over_others_to_the_same_question() -> None:
    liked = trace("Find a cinema", called(what="cinema"), Feedback(verdict="good"), start_ns=5)
    others = [trace("Find a cinema", called(what="theatre"), start_ns=n) for n in range(3)]
    (example,) = curate([*others, liked], OPTIONS).examples
    assert example.source == liked.id


def test_a_later_correction_of_a_known_question_is_learned() -> None:
    traces = [trace(f"Where is the {w}?", called(what=w)) for w in WORDS]
    first = curate(traces, OPTIONS)
    right = Feedback(verdict="bad", answer=called(what="the old zoo"))
    again = trace("Where is the zoo?", called(what="zoom"), right, start_ns=7)
    second = curate([*traces, again], OPTIONS, first)
    assert sides(second) == sides(first)
    (example,) = (e for e in second.examples if question(e.messages) == "where is the zoo?")
    assert json.loads(example.answer.tool_calls[0].arguments) == {"what": "the old zoo"}


def test_slot_twins_stay_and_stand_on_one_side() -> None:
    twins = [
        trace(
            f"Please find me a table for {n} at the old harbour tonight", called(what=f"table {n}")
        )
        for n in range(3, 9)
    ]
    others = [trace(f"Where is the {word}?", called(what=word)) for word in WORDS]
    dataset = curate([*twins, *others], Options(name="t", test=0.3))
    mine = [e for e in dataset.examples if e.source in {t.id for t in twins}]
    assert len(mine) == 6
    assert len({(e.cluster, e.split) for e in mine}) == 1


def test_turns_of_one_conversation_stand_on_one_side() -> None:
    traces = []
    for word in WORDS:
        first = (said(f"I am looking for something to see near the {word}, any idea?"),)
        answer = told(f"How about the {word} itself? It opens at nine and costs {len(word)} euros.")
        second = (*first, answer, said("And after that, with children, in the rain?"))
        third = (*second, told("There is a café."), said("Which one exactly, and is it open now?"))
        traces += [trace(first, answer), trace(second, told(f"A café by the {word}."))]
        traces += [trace(third, told(f"The one beside the {word}."))]
    dataset = curate(traces, OPTIONS)
    for start in {question(e.messages[:1]) for e in dataset.examples}:
        found = {e.split for e in dataset.examples if question(e.messages[:1]) == start}
        assert len(found) == 1


def test_a_step_whose_tool_refused_the_call_is_not_learned() -> None:
    def span(identity: str, kind: str, **more: object) -> Span:
        return Span(id=identity * 16, kind=kind, name=kind, start_ns=0, end_ns=1, **more)  # type: ignore[arg-type]

    asked = (said("Find a cinema"),)
    retried = (
        *asked,
        called(what="x"),
        Message(role="tool", content="error", tool_call_id="call_0"),
    )
    whole = Trace(
        id="f" * 32,
        workload="w",
        spans=(
            span("1", "agent", input=asked),
            span("2", "model", input=asked, output=(called(what="x"),), tools=(FIND,)),
            span("3", "tool", error="no such thing"),
            span("4", "model", input=retried, output=(called(what="cinema"),), tools=(FIND,)),
            span("5", "tool"),
        ),
    )
    (example,) = curate([whole], OPTIONS).examples
    assert (example.id, example.source) == (f"{'f' * 32}-1", "f" * 32)
    assert json.loads(example.answer.tool_calls[0].arguments) == {"what": "cinema"}


def test_what_was_recorded_but_is_not_all_text_is_not_learned() -> None:
    seen = trace("What is this? [image_url]", called(what="cat"))
    image = replace(seen.spans[0], attributes={genai.UNREAD: ["image_url"]})
    dataset = curate(
        [replace(seen, spans=(image,)), trace("Where is the sun?", called(what="sun"))],
        Options(name="w"),
    )
    assert dataset.steps[1].dropped == {"parts of it are not text": 1}


@pytest.mark.parametrize("corrected", [False, True])
def test_nor_is_what_a_caller_showed(corrected: bool) -> None:
    seen = trace("What is this?", called(what="cat"))
    (asked,) = seen.spans[0].input
    image = Image(kept="picture/1/picture.png", media_type="image/png", sent=True)
    shown = replace(seen.spans[0], input=(replace(asked, images=(image,)),))
    right = (Feedback(verdict="bad", answer=called(what="dog"), time_ns=1),) if corrected else ()
    dataset = curate(
        [replace(seen, spans=(shown,), feedback=right), trace("Where is it?", called(what="sun"))],
        Options(name="w"),
    )
    assert dataset.steps[1].dropped == {"parts of it are not text": 1}


def test_few_distinct_short_answers_are_labels() -> None:
    dataset = curate(_tickets(), OPTIONS)
    assert {example.kind for example in dataset.examples} == {"label"}
    for side in ("train", "validation", "test"):
        labels = [e.answer.content for e in dataset.part(side)]
        assert len(set(labels)) == 4
        assert max(map(labels.count, set(labels))) <= min(map(labels.count, set(labels))) + 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ('{"a": 1}', "json"),
        ("[1, 2]", "json"),
        ("A whole sentence about {}.", "text"),
        ("{no", "text"),
    ],
)
def test_answers_tell_their_kind(answer: str, kind: str) -> None:
    traces = [trace(f"Where is the {w}?", told(answer.replace("{}", w))) for w in WORDS]
    if kind == "text":
        traces = [trace(f"Where is the {w}?", told(f"{answer} {w}")) for w in WORDS]
    assert {e.kind for e in curate(traces, OPTIONS).examples} == {kind}


def test_a_whole_number_of_test_questions_is_met_exactly() -> None:
    dataset = curate(_tickets(), Options(name="t", test=50))
    assert len(dataset.part("test")) == 50
    assert len(dataset.part("validation")) == round(0.15 * (len(dataset.examples) - 50))


def test_what_a_prompt_or_a_few_shot_example_shows_is_not_tested() -> None:
    traces = _tickets()
    shown = [t.spans[0].input[-1].content or "" for t in traces[:80]]
    prompt = "Sort tickets. For example:\n" + "\n".join(shown[:40])
    options = Options(name="t", test=0.4, prompts=(prompt,), few_shot=tuple(shown[40:]))
    dataset = curate(traces, options)
    tested = {question(e.messages) for e in dataset.part("test")}
    assert tested
    assert not tested & {plain(text) for text in shown}
    assert dataset.cleanliness.clean


def test_a_prompt_that_shows_a_test_question_later_makes_it_unclean() -> None:
    first = curate(_tickets(), OPTIONS)
    shown = first.part("test")[0].messages[-1].content or ""
    second = curate(_tickets(), Options(name="t", prompts=(f"Like this: {shown}",)), first)
    assert not second.cleanliness.clean
    assert second.cleanliness.exact == 1
    assert [o.nearest for o in second.cleanliness.overlaps if o.ngram == 1.0] == ["prompt"]


def test_personal_data_do_not_reach_the_dataset() -> None:
    traces = [
        trace(f"Find the {w}, then mail ann@{w}.com", called(what=w, city=f"ann@{w}.com"))
        for w in WORDS[:11]
    ]
    dataset = curate(traces, OPTIONS)
    assert next(s.changed for s in dataset.steps if s.name == "redact") == 11
    for example in dataset.examples:
        assert "<email_1>" in (example.messages[0].content or "")
        assert json.loads(example.answer.tool_calls[0].arguments)["city"] == "<email_1>"


def test_without_one_good_example_the_error_says_what_was_dropped() -> None:
    with pytest.raises(
        DataError, match=r"no example is left(.|\n)*2 traces(.|\n)*1 .*timeout|failed"
    ):
        curate([trace("a", None), trace("b", None, error="timeout")], OPTIONS)
    with pytest.raises(DataError, match="there are no traces to learn from"):
        curate([], OPTIONS)


def test_more_test_questions_than_examples_is_told() -> None:
    traces = [trace(f"Where is the {w}?", called(what=w)) for w in WORDS]
    with pytest.raises(DataError, match="150 test questions are wanted, and 12 examples are left"):
        curate(traces, Options(name="t", test=150))


def test_one_example_alone_is_trained_on() -> None:
    dataset = curate([trace("Find a cinema", called(what="cinema"))], OPTIONS)
    assert [example.split for example in dataset.examples] == ["train"]
    assert dataset.cleanliness.tested == 0


def test_traffic_of_one_template_is_still_tested() -> None:
    traces = [
        trace(f"Order {n * 7919} is late by {n % 90} days", called(what=f"order {n * 7919}"))
        for n in range(1000, 1060)
    ]
    dataset = curate(traces, OPTIONS)
    assert dataset.steps[-1].name == "split by near-duplicate"
    assert curate(traces, OPTIONS, dataset) == dataset
    assert dataset.part("test")
    assert dataset.part("train")
    assert dataset.cleanliness.clean


@pytest.mark.parametrize(
    "after",
    ["", "\n\nAnswer with nothing but one of the four labels, in lower case, without a full stop."],
)
def test_instructions_in_the_user_s_message_do_not_make_questions_alike(after: str) -> None:
    before = "You sort tickets of a shop. Think step by step, be fair and polite. " * 4
    bare, framed = _tickets(), []
    for one in bare:
        system, asked = one.spans[0].input
        framed.append(trace((system, said(f"{before}Ticket: {asked.content}{after}")),
                            one.spans[0].output[0], tools=()))  # fmt: skip
    dataset = curate(framed, OPTIONS)
    assert len(dataset.examples) == len(curate(bare, OPTIONS).examples)
    assert dataset.steps[-1].name == "split by template"
    assert dataset.cleanliness.clean
    assert max(o.ngram for o in dataset.cleanliness.overlaps) < 0.8


def test_the_specialist_learns_its_own_answers_only_where_somebody_judged_them() -> None:
    own = [trace(f"Where is the {w}?", called(what=w)) for w in WORDS]
    liked = trace("Find a cinema", called(what="cinema"), Feedback(verdict="good"))
    dataset = curate([*own, liked], Options(name="t", pupils=("m",)))
    assert [e.source for e in dataset.examples] == [liked.id]
    assert dict(dataset.steps[1].dropped) == {
        "the specialist's own answer, which nobody judged": len(WORDS)
    }


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    dataset = curate(_tickets(), OPTIONS)
    files = save(dataset)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert load(tmp_path) == dataset
    line = json.loads(files["test.jsonl"].splitlines()[0])
    assert [m["role"] for m in line["messages"]] == ["system", "user", "assistant"]
    assert len(files["train.jsonl"].splitlines()) == len(dataset.part("train"))
    assert "| split by template |" in files["dataset.md"].decode()
    (tmp_path / "dataset.json").write_bytes(files["dataset.json"][:-9])
    with pytest.raises(DataError, match="Curate again"):
        load(tmp_path)
    with pytest.raises(DataError, match="no dataset here"):
        load(tmp_path / "nowhere")


def _tickets() -> list[Trace]:
    traces = []
    for line in tickets():
        system, asked, answer = (Message(**m) for m in line["messages"])  # type: ignore[attr-defined]
        traces.append(trace((system, asked), answer, tools=()))
    return traces


WORDS = (
    "museum", "harbour", "opera", "bakery", "zoo", "station", "library", "stadium", "market",
    "castle", "planetarium", "old mill",
)  # fmt: skip


def test_an_agent_that_worked_for_another_one_has_its_own_answers() -> None:
    """A router's choices are learned apart from what the chosen agent said."""

    def at(n: int, kind: str, name: str, parent: str | None, *said: str) -> Span:
        question, answer = said
        return Span(
            id=f"{n:016x}",
            parent=parent,
            kind=kind,  # type: ignore[arg-type]
            name=name,
            start_ns=n,
            end_ns=n + 1,
            input=(Message(role="user", content=question),),
            output=(Message(role="assistant", content=answer),),
        )

    traces = [
        Trace(
            id=f"{n:032x}",
            workload="desk",
            spans=(
                at(1, "agent", "desk", None, f"question {n}", "done"),
                at(2, "agent", "route", f"{1:016x}", f"question {n}", "done"),
                at(3, "model", "small", f"{2:016x}", f"question {n}", ("orders", "flights")[n % 2]),
                at(4, "agent", "orders", f"{2:016x}", f"question {n}", "done"),
                at(5, "model", "large", f"{4:016x}", f"question {n}", f"It was sent on day {n}."),
            ),
        )
        for n in range(20)
    ]
    made = curate(traces, Options(name="route", agent="route", test=0, kind="label"))
    assert {example.answer.content for example in made.examples} == {"orders", "flights"}
    assert curate(traces, Options(name="orders", agent="orders", test=0)).examples[0].kind == "text"
