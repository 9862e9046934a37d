"""A workflow of NVIDIA's NeMo Agent Toolkit (NAT) as an app of ours.

written   the file: its keys, their lines, and which of them something became of
models    `llms`
tools     `functions` and `function_groups` that are tools
servers   those behind MCP and A2A
agents    those that are agents, and the `workflow`
flows     those that say who is asked, and in which order
house     the parts of the app while it is made
rest      all other sections
workflow  the whole file

Every key either becomes part of the app or is told by name, with what to use instead. Nothing of
NAT is imported, and no code of the workflow runs.

Source: the configuration classes of `nvidia-nat-core`, `-langchain`, `-mcp` and the other packages
of NAT 1.9.0, and of 1.2 where keys were called otherwise.
"""
