"""Bridges to other frameworks, a small file each.

ours as theirs    `langchain.tools(app.tools("services"))`, `langchain.model("concierge", url)`
theirs as ours    `kind: langchain, object: my.module:agent`, on the shelves `agents` and `tools`

A bridge imports its framework where it is used; none of them is a dependency of kickwheel.
New bridge: one file here, entry points in pyproject.toml, a test in tests/bridges, a page in
docs/bridges.
"""
