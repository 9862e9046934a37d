"""Facts by rules, where no model reads along: only what people say in so many words.

    My name is Ann.   I live in Oslo.   I prefer window seats.   Remember that my code is 4417.

The user's own words are kept, clause by clause. What is asked, supposed, quoted or pasted is left
alone: a rule that stays silent costs a fact, one that is too eager fills the store with junk.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from kickwheel.agents.memory.fact import Candidate, Turn

LONGEST = 300
"""Characters of a clause that is still taken for a fact."""

_I = re.IGNORECASE
_CODE = re.compile(r"```.*?(?:```|\Z)|^>.*$|`[^`\n]*`|^(?: {4}|\t).*$", re.DOTALL | re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]+(?:\.(?=\w)[^.!?\n]*)*[.!?]*")
_SPLIT = re.compile(
    r"(?:\s*[,;]\s*(?:and|but|so|also)?|\s+(?:and|but))\s+"
    r"(?=(?:my|our|i|i['’](?:m|ve)|we|please|remember|call)\s)",
    _I,
)
_FILLER = re.compile(
    r"^(?:(?:hi|hello|hey|ok|okay|well|so|also|oh|yes|no|sure|thanks|thank you|and|but|please|"
    r"by the way|btw|fyi|for your information|for the record|just so you know|just to be clear|"
    r"actually|sorry|as i said)\b[\s,:!–-]*)+",
    _I,
)
_SUPPOSED = re.compile(
    r"\b(?:if|imagine|suppose|pretend|hypothetical\w*|for example|e\.g|let['’]?s say|say that i|"
    r"as if|unless|whether|would be|could be|might be|not sure|guess|story|novel|poem|translate|"
    r"rewrite|example)\b",
    _I,
)
_QUOTES = re.compile(r"[\"“”«»]")
_PREFERS = (
    r"(?:no longer |don['’]?t |do not |really |always |usually |never |also |only |absolutely )*"
    r"(?:like|love|prefer|enjoy|hate|dislike|avoid|can['’]?t stand|eat|drink)"
)
_NO_ATTRIBUTE = (
    "question problem issue request point guess understanding idea goal task order message query "
    "account booking plan"
)
_NOT_MINE = frozenset(_NO_ATTRIBUTE.split())
_NOT_HAD = frozenset(("question", "problem", "issue", "request", "doubt", "look", "idea", "few"))

Slot = Callable[[re.Match[str]], str | None]
"""The slot that the clause fills; `None` where it is no fact after all."""


def _attribute(found: re.Match[str]) -> str | None:
    name = found["name"].lower()
    return None if name.split()[-1] in _NOT_MINE or len(name.split()) > 6 else f"my {name}"


def _preference(found: re.Match[str]) -> str | None:
    thing = re.sub(r"\s*\b(?:any ?more|now|any longer|at all|very much|a lot)\b.*", "", found["of"])
    words = re.findall(r"\w+", thing.lower())
    if not words or words[0] in ("to", "it", "that", "this", "how", "what", "your"):
        return None
    return "likes " + " ".join(words[:5])


def _had(found: re.Match[str]) -> str | None:
    return None if set(found["of"].lower().split()[:3]) & _NOT_HAD else ""


def _always(slot: str) -> Slot:
    return lambda found: slot


_RULES: tuple[tuple[re.Pattern[str], str, Slot], ...] = (
    (
        re.compile(r"(?:my (?:full |first |last )?name(?:['’]s| is)|i(?:['’]m| am) called) \S", _I),
        "name",
        _always("name"),
    ),
    (re.compile(r"call me (?!back|later|at|on|when|if|tomorrow|today|a\b)\w+", _I), "name",
     _always("called")),
    (re.compile(r"[Ii](?:['’]m| am) [A-Z][\w’'-]+(?: [A-Z][\w’'-]+){0,3}$"), "name",
     _always("name")),
    (
        re.compile(r"i(?:['’]m| am) \d{1,3}(?: years old)?$", _I),
        "trait",
        _always("age"),
    ),
    (
        re.compile(r"i (?:now |currently )?live (?:in|at|near|on)\b|i(?:['’]ve| have)? (?:just )?"
                   r"moved to\b|i(?:['’]m| am) (?:now )?(?:based|living) in\b", _I),
        "place",
        _always("home"),
    ),
    (re.compile(r"i(?:['’]m| am) from\b|i come from\b", _I), "place", _always("origin")),
    (re.compile(r"i was born\b", _I), "date", _always("birth")),
    (
        re.compile(r"i (?:now |currently )?work (?:at|for|as|in)\b", _I),
        "trait",
        lambda found: "work " + found[0].split()[-1].lower(),
    ),
    (
        re.compile(r"i(?:['’]m| am) (?:allergic|intolerant) to\b|i(?:['’]m| am) (?:also )?"
                   r"(?:an? )?(?:strict )?(?:vegetarian|vegan|pescatarian|celiac|coeliac|diabetic|"
                   r"pregnant|deaf|blind|left-handed)\b", _I),
        "trait",
        _always(""),
    ),
    (re.compile(rf"i {_PREFERS} (?P<of>.+)", _I), "preference", _preference),
    (
        re.compile(r"(?:my|our) (?P<name>[\w’'/ -]{2,60}?)(?:['’]s| is| are| was| will be)"
                   r"(?: now| actually| currently)? (?!not sure|what|how|why)\S", _I),
        "attribute",
        _attribute,
    ),
    (re.compile(r"i (?:also )?have (?P<of>(?:an?|one|two|three|four|five|\d+|no) .+)", _I), "trait",
     _had),
    (re.compile(r"we(?:['’]ve| have)? (?:decided|agreed|settled) (?:to|on|that)\b", _I), "decision",
     _always("")),
)  # fmt: skip
_REMEMBER = re.compile(
    r"(?:can you |could you |please |always |i want you to |i['’]d like you to )*"
    r"(?:remember|note|keep in mind|don['’]t forget|do not forget|make a note|bear in mind)\b"
    r"(?: (?:for|until) (?:later|me|next time|the future))?(?: that\b| this\b)?[\s:,–-]*"
    r"(?P<what>\S.{3,})",
    _I,
)


async def by_rules(turns: Sequence[Turn], known: object = ()) -> list[Candidate]:
    """The facts that the user's turns tell in so many words; tools' results are not read."""
    return [
        found
        for position, turn in enumerate(turns)
        if turn.role == "user"
        for found in _in(turn.text, position)
    ]


def _in(text: str, turn: int) -> Iterator[Candidate]:
    for sentence in _SENTENCE.findall(_CODE.sub("\n", text)):
        if sentence.rstrip().endswith("?"):
            continue
        asked = _REMEMBER.match(_FILLER.sub("", sentence.strip()))
        what = asked["what"] if asked else sentence
        found = []
        for clause in _SPLIT.split(what):
            # «If I were you, my name would …»: what is supposed once holds to the sentence's end.
            if not _in_earnest(clause):
                break
            fact = _clause(clause, turn)
            if fact is not None:
                found.append(fact)
        if asked and not found and _sober(what):
            found = [Candidate(text=_neat(what), kind="note", turn=turn)]
        yield from found


def _clause(clause: str, turn: int) -> Candidate | None:
    said = _neat(_FILLER.sub("", clause.strip()))
    if not _sober(said):
        return None
    for pattern, kind, slot in _RULES:
        found = pattern.match(said)
        if found:
            place = slot(found)
            if place is not None:
                return Candidate(text=said, kind=kind, slot=place, turn=turn)
    return None


def _sober(said: str) -> bool:
    """Whether it is said in earnest, in the speaker's own voice, and short enough."""
    return 3 < len(said) <= LONGEST and not said.endswith("?") and _in_earnest(said)


def _in_earnest(said: str) -> bool:
    return not _SUPPOSED.search(said) and not _QUOTES.search(said)


def _neat(text: str) -> str:
    text = " ".join(text.split()).strip(" ,;:.!–-")
    return text[:1].upper() + text[1:]
