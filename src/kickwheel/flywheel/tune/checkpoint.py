"""The state of a run, from which it goes on to the same bits.

One file, written beside and renamed: weights and moments of the optimizer, the best weights so far,
the place in the sampler, the schedule, the random state. A file of another run (other data, base
or options) is not taken up.
"""

import io
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kickwheel.core.files import write_whole
from kickwheel.records import CurvePoint

VERSION = 2
"""Of the file: one of another version is of another run."""


@dataclass(slots=True, kw_only=True)
class State:
    """Where a run stands, apart from its weights."""

    run: str
    """Digest of all that the run depends on."""
    steps: int
    """How many there will be, as far as is known."""
    step: int = 0
    progress: float = 0.0
    """Place in the schedule, 0 to 1: steps over steps, unless the number of steps was corrected."""
    seconds: float = 0.0
    """Training time so far, over all runs that it took."""
    tokens: int = 0
    """Tokens learned from so far, those of prompts included."""
    recent: list[float] = field(default_factory=list)
    """Losses of the last steps."""
    readings: int = 0
    best: float | None = None
    """Lowest validation loss."""
    since_best: int = 0
    curve: list[CurvePoint] = field(default_factory=list)


def save(path: Path, state: State, weights: list[Any], best: list[Any], optimizer: Any) -> None:
    """Writes the state of a run.

    Raises:
        StoreError: the disk is full; the state before is still there.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(
        {
            "state": asdict(state),
            "weights": weights,
            "best": best,
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        },
        buffer,
    )
    write_whole(path, buffer.getvalue())


def load(path: Path, run: str, weights: list[Any], best: list[Any], optimizer: Any) -> State | None:
    """Takes up the state at `path` into weights and optimizer; `None` where there is none of this
    run."""
    import torch

    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    if found["state"]["run"] != run:
        return None
    with torch.no_grad():
        for ours, theirs in ((weights, found["weights"]), (best, found["best"])):
            for one, other in zip(ours, theirs, strict=True):
                one.copy_(other)
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["random"])
    state = dict(found["state"])
    state["curve"] = [CurvePoint(**point) for point in state["curve"]]
    return State(**state)
