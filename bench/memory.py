"""What was said at turn 3, asked for at turn 299: in the prompt or not, and answered or not.

    python bench/memory.py [ANSWERED]    (answers to this many questions, by default 80; 0: none)

Conversations of 300 turns, 150 of each side. At turn 3 a user tells of themselves in the words of
the memory category of the Berkeley Function Calling Leaderboard (`bfcl-eval`, Apache-2.0), eight
statements at once; then they ask for other things, as people do in its live queries, and are
answered with the accepted call. At turn 299 one of the leaderboard's own questions is put.

Two things are measured, since the embedded model of 135 million parameters is weak:
evidence  whether the sentence that holds the answer stands in the prompt at all
answer    whether the model then chooses the right one of four answers of the same person

Beside our memories stand the whole conversation in the window, and files with grep: the
conversation as a file, its lines that hold most words of the question, within the same budget.
"""

import asyncio
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from blueprints.concierge.traffic import wheel

from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.memory import Facts, Ledger, Memory, Together
from kickwheel.agents.memory.alike import contained, words
from kickwheel.agents.memory.facts import FactsPart
from kickwheel.agents.memory.turns import Turns
from kickwheel.agents.memory.window import WindowMemory
from kickwheel.core.store import open_store
from kickwheel.flywheel import interval
from kickwheel.models.catalog import pull
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.engines import open_engine
from kickwheel.models.engines.llamacpp import LocalModel
from kickwheel.records import Message

BUDGET = 1_000
TURNS = 300
TOGETHER = 8
NAMES = ("whole context", "files and grep", "window", "window+facts", "facts, new talk")
SYSTEM = Message(role="system", content="You are a helpful assistant. Answer from what was said.")


@dataclass(frozen=True)
class Question:
    """A question of the leaderboard, with the sentence that answers it."""

    text: str
    answer: str
    source: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Talk:
    """One conversation up to the question, and what may be asked then."""

    messages: tuple[Message, ...]
    questions: tuple[Question, ...]


@dataclass
class Score:
    """What came of one way to remember."""

    tokens: list[int] = field(default_factory=list)
    evidence: list[bool] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    made_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)


def talks() -> Iterator[Talk]:
    """All conversations, always the same."""
    chooser = Random(4)
    file = zipfile.ZipFile(wheel())
    fillers = list(_fillers(file))
    for questions in _groups(file, chooser):
        turns = [SYSTEM]
        told = " ".join(question.source for question in questions)
        for turn in range(1, TURNS - 1, 2):
            asked, answer = chooser.choice(fillers)
            turns.append(Message(role="user", content=told if turn == 3 else asked))
            turns.append(Message(role="assistant", content="Thanks." if turn == 3 else answer))
        yield Talk(tuple(turns), questions)


def _groups(file: zipfile.ZipFile, chooser: Random) -> Iterator[tuple[Question, ...]]:
    data = "bfcl_eval/data"
    answers = {
        entry["id"]: entry for entry in _lines(file, f"{data}/possible_answer/BFCL_v4_memory.json")
    }
    people: dict[str, list[tuple[str, str, str]]] = {}
    for entry in _lines(file, f"{data}/BFCL_v4_memory.json"):
        known = answers[entry["id"]]
        text, right = entry["question"][0][-1]["content"], str(known["ground_truth"][0])
        source = " ".join(str(known["source"]).split())
        if source:
            people.setdefault(entry["scenario"], []).append((text, right, source))
    for asked in people.values():
        for start in range(0, len(asked), TOGETHER):
            made = []
            for text, right, source in asked[start : start + TOGETHER]:
                others = sorted({a for _, a, _ in asked} - {right})
                choices = [right, *chooser.sample(others, min(3, len(others)))]
                chooser.shuffle(choices)
                made.append(Question(text, right, source, tuple(choices)))
            yield tuple(made)


def _fillers(file: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    data = "bfcl_eval/data"
    name = "BFCL_v4_live_multiple.json"
    answers = {e["id"]: e["ground_truth"] for e in _lines(file, f"{data}/possible_answer/{name}")}
    for entry in _lines(file, f"{data}/{name}"):
        text = " ".join(entry["question"][0][-1]["content"].split())
        ((call, arguments),) = answers[entry["id"]][0].items()
        values = [str(values[0]) for values in arguments.values() if values and values[0]]
        answer = f"{call.rpartition('_')[2]}: {', '.join(values)}"
        if text.isascii() and len(text) <= 80 and len(answer) <= 60:
            yield text, answer


def _lines(file: zipfile.ZipFile, name: str) -> Iterator[dict]:  # type: ignore[type-arg]
    for line in file.read(name).decode().splitlines():
        yield json.loads(line)


Prompt = Callable[[Talk, Question], Awaitable[tuple[Message, ...]]]


async def whole(talk: Talk, question: Question) -> tuple[Message, ...]:
    return (*talk.messages, Message(role="user", content=question.text))


def remembered(memory: Memory, model: LocalModel) -> Prompt:
    async def prompt(talk: Talk, question: Question) -> tuple[Message, ...]:
        return await memory.before(await whole(talk, question), model=model)

    return prompt


def anew(facts: Facts) -> Prompt:
    """The question in a conversation of its own, with what is known from the one before."""

    async def prompt(talk: Talk, question: Question) -> tuple[Message, ...]:
        return await facts.before((SYSTEM, Message(role="user", content=question.text)))

    return prompt


def grepped(model: LocalModel) -> Prompt:
    async def prompt(talk: Talk, question: Question) -> tuple[Message, ...]:
        lines = [f"{m.role}: {m.content}" for m in talk.messages[1:]]
        patterns = [re.compile(rf"\b{re.escape(word)}", re.I) for word in set(words(question.text))]
        hits = [sum(bool(p.search(line)) for p in patterns) for line in lines]
        best = sorted((i for i, n in enumerate(hits) if n), key=lambda i: (-hits[i], -i))
        chosen: list[int] = []
        asked = Message(role="user", content=question.text)
        made: tuple[Message, ...] = (SYSTEM, asked)
        for i in best[:60]:
            found = "\n".join(lines[j] for j in sorted([*chosen, i]))
            note = Message(role="user", content=f"grep found in earlier turns:\n{found}")
            longer = (SYSTEM, note, asked)
            if await model.prompt_tokens(ChatRequest(messages=longer)) <= BUDGET:
                chosen.append(i)
                made = longer
        return made

    return prompt


def asks(question: Question) -> Message:
    return Message(
        role="user",
        content=f"{question.text}\nAnswer with one of: {'; '.join(question.choices)}.",
    )


async def lived(memory: Memory, talk: Talk, model: LocalModel) -> tuple[list[float], list[float]]:
    """The conversation as it happens: the memory has a say at each turn of the user.

    Returns: seconds of each call of `before`, and the share of each prompt that an engine had read.
    """
    seconds, shares = [], []
    last: tuple[Message, ...] = ()
    for end in range(2, len(talk.messages), 2):
        started = time.perf_counter()
        sent = await memory.before(talk.messages[:end], model=model)
        seconds.append(time.perf_counter() - started)
        same = next((i for i, m in enumerate(sent) if i >= len(last) or m != last[i]), len(sent))
        shares.append(_letters(sent[:same]) / _letters(sent))
        last = sent
        await memory.after(talk.messages[:end], talk.messages[end])
    return seconds, shares


async def measure(answered: int) -> None:
    scores = {name: Score() for name in NAMES}
    called: list[float] = []
    read: list[float] = []
    learned = 0
    all_talks = list(talks())
    every = -(-sum(len(t.questions) for t in all_talks) // answered) if answered else 0
    async with open_engine(pull("smollm2-135m"), threads=1, context=8192, parallel=1) as engine:
        model = await engine.model()
        for number, talk in enumerate(all_talks):
            answers = bool(every) and number % every == 0
            with (
                tempfile.TemporaryDirectory() as folder,
                open_store(Path(folder)) as store,
                acting_for(Caller(user=f"user-{number}")),
            ):
                window = WindowMemory("session", Turns(store.database), BUDGET)
                facts = Facts("longterm", Ledger(store.database), options=FactsPart())
                both = Together([facts, window])
                seconds, shares = await lived(both, talk, model)
                called += seconds
                read += shares[len(shares) // 2 :]
                learned += len(await facts.list(f"user-{number}"))

                ways: dict[str, Prompt] = {
                    "whole context": whole,
                    "files and grep": grepped(model),
                    "window": remembered(window, model),
                    "window+facts": remembered(both, model),
                    "facts, new talk": anew(facts),
                }
                for name, prompt in ways.items():
                    await score(scores[name], prompt, talk, model, answers)
            print(f"  {number + 1}/{len(all_talks)}", end="\r", file=sys.stderr, flush=True)
    report(scores, called, read, learned)


async def score(to: Score, prompt: Prompt, talk: Talk, model: LocalModel, answers: bool) -> None:
    for question in talk.questions:
        started = time.perf_counter()
        messages = await prompt(talk, question)
        to.made_s.append(time.perf_counter() - started)
        text = "\n".join(message.content or "" for message in messages[:-1])
        to.evidence.append(stands_in(text, question))
        to.tokens.append(await model.prompt_tokens(ChatRequest(messages=messages)))
        if answers:
            started = time.perf_counter()
            # The choices come last, when the memory has made its prompt without them.
            request = ChatRequest(
                messages=(*messages[:-1], asks(question)),
                labels=question.choices,
                temperature=0.0,
                max_tokens=60,
                timeout_s=300,
            )
            answer = await complete(model, request)
            to.answered_s.append(time.perf_counter() - started)
            to.right.append(answer.message.content == question.answer)


def stands_in(prompt: str, question: Question) -> bool:
    """Whether the prompt holds the sentence that answers, or a part of it with the answer."""
    if contained(question.source, prompt) >= 0.9:
        return True
    for line in prompt.splitlines():
        said = line.rpartition("said: ")[2].removeprefix("- user: ").rstrip("]")
        if question.answer.lower() in said.lower() and contained(said, question.source) >= 0.9:
            return True
    return False


def report(scores: dict[str, Score], called: list[float], read: list[float], learned: int) -> None:
    print(
        f"{platform.processor() or platform.machine()}, one thread, load {os.getloadavg()[0]:.1f}"
    )
    print(f"budget {BUDGET} tokens, {TURNS} turns; intervals are Wilson's at 95 %")
    print(
        f"{'':16}{'prompt tokens':>16} {'evidence in the prompt':>30} {'right of four':>30} "
        f"{'s to make':>10} {'s to answer':>12}"
    )
    for name, found in scores.items():
        tokens = f"{statistics.median(found.tokens):.0f} (≤ {max(found.tokens)})"
        answered = f"{statistics.median(found.answered_s):.2f}" if found.answered_s else "–"
        print(
            f"{name:16}{tokens:>16} {_rate(found.evidence):>30} {_rate(found.right):>30} "
            f"{statistics.median(found.made_s):10.3f} {answered:>12}"
        )
    ours, base = scores["window+facts"], scores["whole context"]
    if ours.right:
        rows = list(zip(ours.right, base.right, strict=True))
        paired = interval.paired_rates(rows)
        print(
            f"window+facts − whole context, same questions: {paired.value:+.3f} "
            f"[{paired.low:+.3f}, {paired.high:+.3f}], {paired.wins} : {paired.losses}"
        )
    print(
        f"{len(called)} turns lived through: before() {1000 * statistics.median(called):.1f} ms at "
        f"p50, {1000 * _share(called, 0.99):.1f} ms at p99; of the prompts of the later half "
        f"{statistics.mean(read):.0%} had been read by the engine; {learned} facts learned by rules"
    )


def _rate(found: Sequence[bool]) -> str:
    if not found:
        return "–"
    low, high = interval.wilson(sum(found), len(found))
    return f"{sum(found)}/{len(found)} {sum(found) / len(found):.3f} [{low:.3f}, {high:.3f}]"


def _share(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _letters(messages: Sequence[Message]) -> int:
    return sum(len(message.content or "") for message in messages)


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 80))
