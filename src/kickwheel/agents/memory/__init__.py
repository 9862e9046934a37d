"""What an agent remembers: within one conversation, and beyond it.

memory   what every memory can do, and several as one

An agent's loop calls `before` for each question to its model and `after` once at the end; what a
memory puts into a conversation is marked, so that no memory learns from itself.
New kind: one file here, one entry point in pyproject.toml, a part of docs/memory.md.
"""

from kickwheel.agents.memory.memory import Memory, Together, is_recalled

__all__ = ["Memory", "Together", "is_recalled"]
