"""Bridges to other frameworks, a small file each.

ours as theirs    `langchain.tools(app.tools("services"))`, `langchain.model("concierge", url)`
theirs as ours    `kind: langgraph, object: my.module:agent`, on the shelves `agents` and `tools`

bridge    what all of them share
found     an object of theirs, by its name in an app file
heard     what is heard of their work, for the run, its trace and its answer
threads   those that only know how to block

A bridge imports its framework where it is used; none of them is a dependency of kickwheel.
New bridge: one file here, entry points in pyproject.toml, a test in tests/bridges, a section on
docs/bridges/README.md.
"""
