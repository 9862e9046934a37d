"""The router's traffic: what customers of tau2 want, each with the desk whose work it is.

The tasks tell a customer what to want («You want to return …»); said by the customer it is the
question («I want to return …»). The conversation is the one that the router's model sees, so that
what is learned here is what is asked later.
"""

import json
import re
from pathlib import Path
from typing import get_args

import tau2_package

from kickwheel.agents.kinds.router import told
from kickwheel.core.config import read_yaml
from kickwheel.core.files import write_whole

_SAID = {
    "you are": "I am",
    "you're": "I'm",
    "you were": "I was",
    "you've": "I have",
    "you'd": "I would",
    "you'll": "I will",
    "you": "I",
    "your": "my",
    "yours": "mine",
    "yourself": "myself",
}
_WORDS = re.compile(r"\b(" + "|".join(sorted(_SAID, key=len, reverse=True)) + r")\b", re.IGNORECASE)


def write(folder: Path) -> Path:
    """The traffic as a file in `folder`, in the form that `kickwheel import` reads."""
    agents = read_yaml(Path(__file__).with_name("app.yml")).data["agents"]
    system = told({name: agents[name]["description"] for name in get_args(tau2_package.Domain)})
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "system", "content": system},
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": domain},
                ]
            },
            ensure_ascii=False,
        )
        for domain in get_args(tau2_package.Domain)
        for question in questions(domain)
    ]
    file = folder / "helpdesk.jsonl"
    write_whole(file, "\n".join(lines) + "\n")
    return file


def questions(domain: tau2_package.Domain) -> list[str]:
    """What the customers of one desk ask, each once."""
    reasons = [
        task["user_scenario"]["instructions"]["reason_for_call"]
        for task in tau2_package.tasks(domain)
    ]
    return list(dict.fromkeys(said(reason) for reason in reasons if reason.strip()))


def said(text: str) -> str:
    """The text as the customer says it: `said("You want your money.")` is "I want my money."."""
    spoken = _WORDS.sub(lambda match: _as(match[0], _SAID[match[0].lower()]), text)
    return " ".join(spoken.split())


def _as(before: str, after: str) -> str:
    """The word, with a capital where the one before had one."""
    return after[0].upper() + after[1:] if before[0].isupper() else after
