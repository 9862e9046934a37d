"""Docstrings in the styles of Google, NumPy and Sphinx, as their own guides show them."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from kickwheel.agents.tools import docstring
from kickwheel.agents.tools.python import from_function


def google(hotel: str, nights: int = 1, *, guests: list[str], **more: Any) -> None:
    """Book a room.

    Takes effect at once: nothing
    can be undone.

    Args:
        hotel (str, optional): Name of the hotel: as it
            stands in the list.
        nights: How many.

    Keyword Args:
        guests:
            Who comes.

    Returns:
        bool: Whether there was room.

    Raises:
        ValueError: no such hotel.
    """


def numpy(hotel: str, nights: int = 1, *, guests: list[str], **more: Any) -> None:
    """Book a room.

    Takes effect at once: nothing
    can be undone.

    Parameters
    ----------
    hotel : str
        Name of the hotel: as it
        stands in the list.
    nights : int, default 1
        How many.

    Other Parameters
    ----------------
    guests
        Who comes.

    Returns
    -------
    bool
        Whether there was room.
    """


def sphinx(hotel: str, nights: int = 1, *, guests: list[str], **more: Any) -> None:
    """Book a room.

    Takes effect at once: nothing
    can be undone.

    :param str hotel: Name of the hotel: as it
        stands in the list.
    :param nights: How many.
    :type nights: int
    :keyword guests: Who comes.
    :returns: Whether there was room.
    :rtype: bool
    :raises ValueError: no such hotel.
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_every_style_says_the_same(function: Callable[..., None]) -> None:
    read = docstring.read(inspect.getdoc(function) or "")
    assert read.description == "Book a room.\n\nTakes effect at once: nothing\ncan be undone."
    assert read.parameters == {
        "hotel": "Name of the hotel: as it stands in the list.",
        "nights": "How many.",
        "guests": "Who comes.",
    }


def test_two_parameters_may_share_a_description() -> None:
    text = "Move.\n\nParameters\n----------\nx, y : float\n    Where to.\nz : float\n    How high."
    assert docstring.read(text).parameters == {
        "x": "Where to.",
        "y": "Where to.",
        "z": "How high.",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "One line.",
        "Ends with a colon:\n\n    an example, indented",
        "A table\n-------\nis no section.",
        "Rates are in :math:`x`, see :ref:`here`: both.",
        "Note that args: are not a section here.",
    ],
)
def test_a_text_without_sections_is_all_description(text: str) -> None:
    assert docstring.read(text) == docstring.Docstring(text)


def test_what_the_docstring_says_of_nothing_is_no_parameter() -> None:
    def book(hotel: str) -> None:
        """Book.

        Args:
            hotel: Which.
            gone: Was renamed long ago.
        """

    assert from_function(book).spec.parameters["properties"] == {
        "hotel": {"type": "string", "description": "Which."}
    }
