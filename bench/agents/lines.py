"""How many lines the concierge takes here and in plain LangGraph: neither blank nor comment.

python bench/agents/lines.py
"""

import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_lines(text: str) -> int:
    """Lines with code on them; docstrings and comments are none."""
    found: set[int] = set()
    fresh = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            fresh = True
        elif token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.ENDMARKER):
            if not (fresh and token.type == tokenize.STRING):
                found.update(range(token.start[0], token.end[0] + 1))
            fresh = False
    return len(found)


def yaml_lines(text: str) -> int:
    """Lines that say something; what only the flywheel needs is left out."""
    kept = text.partition("\nflywheel:")[0]
    lines = (line.partition("#")[0].strip() for line in kept.splitlines())
    return sum(bool(line) for line in lines)


if __name__ == "__main__":
    ours = yaml_lines((ROOT / "blueprints/concierge/app.yml").read_text("utf-8"))
    theirs = python_lines((Path(__file__).parent / "concierge_langgraph.py").read_text("utf-8"))
    print(f"app.yml {ours} lines, LangGraph {theirs}: {1 - ours / theirs:.0%} fewer")
