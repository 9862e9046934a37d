"""What a docstring says of a function and of each parameter, in any of the three common styles.

    Args:                       Parameters                  :param nights: How many.
        nights: How many.       ----------
                                nights : int
    (Google)                        How many.  (NumPy)      (Sphinx)

The style is seen from the text, section by section; a text without sections is all description.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PARAMETERS = re.compile(r"((keyword )?arg(ument)?s|(other )?parameters|params)")
_SECTIONS = re.compile(
    _PARAMETERS.pattern + r"|returns?|receives|raises|yields?|examples?|notes?|source|warns|"
    r"warnings?|attributes|methods|references|see also|todo"
)
_UNDERLINE = re.compile(r"[-=~]{3,}\s*$")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:(?:\s+(.*)|)$")
_NUMPY = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX = re.compile(r":(\w+)\s*([^:]*):\s*(.*)$")
_SPHINX_PARAMETERS = re.compile(r"(param(eter)?|arg(ument)?|key(word)?)")
_SPHINX_FIELDS = re.compile(
    _SPHINX_PARAMETERS.pattern + r"|type|returns?|rtype|raises?|except(ion)?|yields?|ytype|"
    r"[ic]?var|vartype|meta"
)


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring, read."""

    description: str
    """What stands before the first section."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The description of each parameter that has one."""


def read(text: str) -> Docstring:
    """The docstring, of which `inspect.getdoc` has taken the indentation away."""
    lines = text.splitlines()
    sections: list[tuple[str, str, list[str]]] = [("", "google", [])]
    skip = False
    for position, line in enumerate(lines):
        if skip:
            skip = False
            continue
        word = line.strip().lower()
        below = lines[position + 1] if position + 1 < len(lines) else ""
        sphinx = _SPHINX.match(line)
        if _SECTIONS.fullmatch(word) and line == line.lstrip() and _UNDERLINE.match(below):
            sections.append((word, "numpy", []))
            skip = True
        elif (
            word.endswith(":") and _SECTIONS.fullmatch(word[:-1].rstrip()) and line == line.lstrip()
        ):
            sections.append((word[:-1].rstrip(), "google", []))
        elif sphinx and _SPHINX_FIELDS.fullmatch(sphinx[1]):
            sections.append((sphinx[1], "sphinx", [sphinx[2].strip(), sphinx[3]]))
        else:
            sections[-1][2].append(line)
    found: dict[str, str] = {}
    for name, style, inside in sections[1:]:
        if style == "sphinx":
            words = inside[0].split()
            if _SPHINX_PARAMETERS.fullmatch(name) and words:
                found[words[-1].lstrip("*\\")] = _joined(inside[1:])
        elif _PARAMETERS.fullmatch(name):
            found.update(_google(inside) if style == "google" else _numpy(inside))
    about = {name: said for name, said in found.items() if said}
    return Docstring("\n".join(sections[0][2]).strip(), about)


def _google(lines: Sequence[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    outer = next((_indent(line) for line in lines if line.strip()), 0)
    last = ""
    for line in lines:
        entry = _GOOGLE.match(line.strip())
        if entry and _indent(line) == outer:
            last = entry[1]
            found[last] = [entry[2] or ""]
        elif last:
            found[last].append(line)
    return {name: _joined(said) for name, said in found.items()}


def _numpy(lines: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    said: list[str] = []
    for line in [*lines, "end"]:
        head = _NUMPY.match(line) if line == line.lstrip() else None
        if head is None:
            said.append(line)
            continue
        found.update(dict.fromkeys(names, _joined(said)))
        names, said = [name.strip().lstrip("*") for name in head[1].split(",")], []
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: Sequence[str]) -> str:
    """The lines as one paragraph."""
    return " ".join(" ".join(lines).split())
