"""A tool that kills its own process in each of its calls, before it acts and after it acted.

It works in the folder of the process. `noted` gets a line for each time that it acted: the call's
idempotency key, a tab, and the text. `killed` says where it has killed already: there it passes.
"""

import os
import signal
from pathlib import Path

import kickwheel
from kickwheel.agents.caller import idempotency_key


def note(text: str) -> str:
    """Notes a text."""
    key = idempotency_key()
    _perhaps_the_last(f"before {key}")
    with Path("noted").open("a") as noted:
        noted.write(f"{key}\t{text}\n")
    _perhaps_the_last(f"after {key}")
    return f"noted {text}"


def _perhaps_the_last(moment: str) -> None:
    killed = Path("killed")
    if killed.exists() and moment in killed.read_text().splitlines():
        return
    with killed.open("a") as file:
        file.write(f"{moment}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def live(folder: str, name: str, said: tuple[str, str, str] | None) -> None:
    """One life of a program: it asks the agent `name`, or gives an answer to what a run asked.

    Args:
        said: the run, the path of what it asks, and the answer.
    """
    os.chdir(folder)
    if said is None:
        kickwheel.run(Path(folder), "Note it, please.", name=name, key="k")
    else:
        run, path, text = said
        kickwheel.answer(Path(folder), run, text, question=path)
