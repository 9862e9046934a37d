"""Which parts need which: the names in their options; and which one answers for all."""

from collections.abc import Collection, Iterator, Mapping

from pydantic import BaseModel

from kickwheel.app.plan import ANSWERING, SHELVES, Plan
from kickwheel.core.config import Document
from kickwheel.core.errors import Mistake, UsageError
from kickwheel.core.plugins import Name, Part, nearest


def needs(part: BaseModel) -> list[tuple[tuple[str | int, ...], str, str]]:
    """The names of other parts that a part, or a section in it, holds: (key, shelf, name)."""
    found: list[tuple[tuple[str | int, ...], str, str]] = []
    for field_name, info in type(part).model_fields.items():
        key = info.alias or field_name
        shelf = next((m.shelf for m in info.metadata if isinstance(m, Name)), None)
        value = getattr(part, field_name)
        for place, inner in _leaves((key,), value):
            if isinstance(inner, BaseModel):
                found += [((*place, *deeper), *named) for deeper, *named in needs(inner)]  # type: ignore[misc]
            elif shelf is not None and isinstance(inner, str):
                found.append((place, shelf, inner))
    return found


def _leaves(
    place: tuple[str | int, ...], value: object
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """What lists and mappings hold, with the way there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves((*place, str(key)), inner)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _leaves((*place, position), inner)
    else:
        yield place, value


def default(plan: Plan) -> str:
    """The agent or model that answers where nobody is named: the flywheel's, else the only agent
    that works for no other one.

    Raises:
        UsageError: there are several, and the file does not say which.
    """
    loop = plan.config.flywheel
    if loop is not None:
        return loop.agent or loop.model
    needed = {(shelf, name) for part in plan.parts.values() for _, shelf, name in needs(part)}
    for shelf in ANSWERING:
        names = [name for s, name in plan.parts if s == shelf]
        first = [name for name in names if (shelf, name) not in needed]
        if len(first) == 1:
            return first[0]
        if names:
            raise UsageError(f"{plan.file}: name one of {', '.join(names)} (--as)")
    raise UsageError(
        f"{plan.file}: has neither agents nor models. Add one, for example\n"
        "models: {general: {kind: local}}"
    )


def check_names(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    for (shelf, name), part in parts.items():
        for key, other, wanted in needs(part):
            named = document.data.get(other) or {}
            if wanted not in named:
                one = other.removesuffix("s")
                what = f'no {one} named "{wanted}". {nearest(wanted, named)}'
                mistakes.append(document.mistake((shelf, name, *key), what))


def check_circles(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    done: set[tuple[str, str]] = set()

    def visit(key: tuple[str, str], way: tuple[tuple[str, str], ...]) -> None:
        way = (*way, key)
        for where, shelf, name in needs(parts[key]):
            other = shelf, name
            if other in way:
                circle = " → ".join(f"{s}.{n}" for s, n in [*way[way.index(other) :], other])
                what = f"parts need each other in a circle: {circle}"
                mistakes.append(document.mistake((*key, *where), what))
            elif other in parts and other not in done:
                visit(other, way)
        done.add(key)

    for key in parts:
        if key not in done:
            visit(key, ())


def check_money(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    """A budget of dollars counts nothing where a model's tokens have no prices."""
    for key, part in parts.items():
        if getattr(getattr(part, "budget", None), "cost_usd", None) is None:
            continue
        asked, found = [key], {key}
        while asked:
            one = asked.pop()
            more = {(shelf, name) for _, shelf, name in needs(parts[one])} & parts.keys() - found
            found |= more
            asked += more
            if getattr(parts[one], "prices", 0) is None:
                what = (
                    f"cannot count what {one[1]} costs, which has no prices. Give it some, for "
                    "example prices: {input: 0.25, output: 2.0}"
                )
                mistakes.append(document.mistake((*key, "budget", "cost_usd"), what))


def order(plan: Plan, only: Collection[str] | None) -> list[tuple[str, str]]:
    """Parts in the order to open: what a part needs comes before it."""
    ordered: list[tuple[str, str]] = []

    def visit(key: tuple[str, str]) -> None:
        if key in ordered:
            return
        for _, shelf, name in needs(plan.parts[key]):
            visit((shelf, name))
        ordered.append(key)

    wanted = [k for k in plan.parts if only is None or (k[0] in ANSWERING and k[1] in only)]
    if only is not None:
        known = {name for shelf, name in plan.parts if shelf in ANSWERING}
        for name in only:
            if name not in known:
                raise UsageError(
                    f'{plan.file}: no agent or model named "{name}". {nearest(name, known)}'
                )
    for key in sorted(wanted, key=lambda k: SHELVES.index(k[0])):
        visit(key)
    return ordered
