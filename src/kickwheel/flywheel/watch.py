"""Who wants to see how far long work is."""

from typing import Protocol


class Watch(Protocol):
    """Is told of each step."""

    def step(self, name: str, note: str) -> None:
        """A step has ended; `note` says with what."""

    def update(self, name: str, done: float, total: float, note: str) -> None:
        """A running step has done `done` of `total`."""


class Silent:
    """Watches nothing."""

    def step(self, name: str, note: str) -> None:
        return

    def update(self, name: str, done: float, total: float, note: str) -> None:
        return
