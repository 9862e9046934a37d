"""Bridges to other frameworks: two small files each, both named after it.

langchain.py …     tools and models, such as a program or an entry under `tools` takes them:
                   `langchain.tools(app.tools("services"))`, `langchain.model("concierge", url)`,
                   `kind: langgraph, object: my.module:tool`
agents/ …          agents at work, for an entry under `agents`:
                   `kind: langgraph, object: my.module:agent`

bridge    what all tools share
worker    what all agents share
found     an object of theirs, by its name in an app file
heard     what is heard of their work, for the run, its trace and its answer
threads   those that only know how to block

A bridge imports its framework where it is used; none of them is a dependency of kickwheel.
New bridge: a file here and one in `agents/`, entry points in pyproject.toml, a test in
tests/bridges, a section on docs/bridges/README.md.
"""
