"""A tool that leaves a line for each time that it was called."""

from pathlib import Path


def note(text: str) -> str:
    """Notes a text."""
    with Path("noted").open("a") as noted:
        noted.write(f"{text}\n")
    return f"noted {text}"
