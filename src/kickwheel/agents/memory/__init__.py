"""What an agent remembers: within one conversation, and beyond it.

window   a conversation of any length within a budget of tokens
facts    what people said, kept beyond one conversation

memory   what every memory can do, and several as one
tokens   how many tokens a conversation has
fit      a conversation made to fit (`cut`: what is left out, `summary`: what stands for it)
turns    what was left out, kept whole; `recall` finds it again
fact     what a fact is; `ledger` holds them all, `search` finds them, `tables` are both databases
learning from an exchange to facts, by `rules` or by a model (`extract`); `alike` compares texts

An agent's loop calls `before` for each question to its model and `after` once at the end; what a
memory puts into a conversation is marked, so that no memory learns from itself.
New kind: one file here, one entry point in pyproject.toml, a part of docs/memory.md.
"""

from kickwheel.agents.memory.fact import Fact, Scope
from kickwheel.agents.memory.facts import Facts
from kickwheel.agents.memory.ledger import Forgotten, Ledger
from kickwheel.agents.memory.memory import Memory, Together, is_recalled, leaves_out

__all__ = [
    "Fact",
    "Facts",
    "Forgotten",
    "Ledger",
    "Memory",
    "Scope",
    "Together",
    "is_recalled",
    "leaves_out",
]
