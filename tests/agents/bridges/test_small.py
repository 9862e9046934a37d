"""A bridge stays a small file: what grows in it belongs to all of them, or is not needed."""

import ast
import io
import tokenize
from collections import defaultdict
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

MOST = 60
"""Lines of code in a bridge."""
HOME = "kickwheel.agents.bridges."


def bridges() -> dict[str, set[str]]:
    """Modules of the bridges, by the shelf whose kinds they hold."""
    named = defaultdict(set)
    for shelf in ("tools", "agents"):
        for one in entry_points(group=f"kickwheel.{shelf}"):
            if one.module.startswith(HOME):
                named[shelf].add(one.module)
    return named


def lines_of_code(source: str) -> int:
    """Lines that are neither blank nor only comment, and in no docstring."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank and token.string:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=int(last)):
                lines.difference_update(range(first, last + 1))
    return len(lines)


def test_lines_of_code_are_those_that_do_something() -> None:
    source = (
        '"""About\n\nit."""\n\nX = [\n    1,  # one\n]\n"""What X is."""\n\n# A reason.\nY = 2\n'
    )
    assert lines_of_code(source) == 4


@pytest.mark.parametrize("module", sorted(set.union(*bridges().values())))
def test_a_bridge_is_a_small_file(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    count = lines_of_code(Path(spec.origin).read_text("utf-8"))
    assert count <= MOST, f"{spec.origin} has {count} lines of code; {MOST} are enough"


def test_each_framework_has_a_file_for_tools_and_one_of_the_same_name_for_agents() -> None:
    named = bridges()
    agents = {module.replace(f"{HOME}agents.", HOME) for module in named["agents"]}
    assert agents == named["tools"]
    assert len(agents) == 12
