"""MCP: an app's agents, tools and files for other programs, by the official SDK.

door      /mcp, streamable HTTP; what stands behind it is made when somebody asks for the first time
stdio     the same over standard input and output
offer     what the file says is offered: agents, tools, files
server    the methods of the protocol: list and call tools, list and read resources
work      one call at work: a run of an agent, or a tool within its limits
person    questions of a call, put to the person at the client's end
files     the files of a folder as resources

The SDK is imported by `server`, `work` and `person`, and by the others only when they are used.
"""
