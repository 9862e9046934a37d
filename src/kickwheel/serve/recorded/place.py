"""`/t/<project>/v1/…`: whose traffic it is, told by the path, the one thing that every client and
framework lets its user set."""

import re

PROJECTS = "/t/"
"""How the paths of projects begin."""

_PLACE = re.compile(r"/t/([\w][\w.\-]{0,127})(/v1/.+)", re.DOTALL)


def place(path: str) -> tuple[str, str]:
    """The project that the path names, and the path without it; "" and the path where it names
    none: `place("/t/shop/v1/models")` is `("shop", "/v1/models")`."""
    if not path.startswith(PROJECTS):
        return "", path
    found = _PLACE.fullmatch(path)
    # A way up would leave the place that the upstream's URL names.
    if found is None or not {".", ".."}.isdisjoint(found[2].split("/")):
        return "", path
    return found[1], found[2]
