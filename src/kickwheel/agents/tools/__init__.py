"""What an agent can do.

python   functions of one's own; signature and docstring are the schema
openapi  services that describe themselves by an OpenAPI document: `bundle` reads it whole,
         `swagger` and `dialect` say it in one form; `apidoc` has its operations, `style` values
http     services that do not: requests written in the app; `web` is one request of either
sql      questions to a database, reading only unless the app says otherwise: `statement` tells what
         one may do, `database` asks it behind its `fences`, `tables` describes
files    files below a folder: `root` and `tree`, `search` and `matching`, `edit` and `text`
shell    commands, in a sandbox
program  Python programs, in a sandbox; `confined` has what both share
browser  pages of the web, in a real browser: `chromium` of all, `browsing` of one request, `proxy`
mcp      tools of MCP servers: `mcp_link` and `mcp_wire` connect, `mcp_answer` reads, `mcp_more`
         has resources and prompts; `mcp_login`, `mcp_kept`, `mcp_oauth` log in, `mcp_person` asks

tool      what a tool is, and what one call may cost
calling   one call as a model wrote it: understood, allowed, made, cut and marked, watched
repair    malformed calls, where only one reading is possible; `fitting` for values
attempt   a call within its limits: places, time, tries; `breaker`
auth      what authorises requests, as the app says it; `access` and `tokens` sign them
flow      what untrusted results may move an agent to
pages     results that are too long, read on in parts
repeat    calls that lead nowhere
sandbox   programs kept apart: `running`, `seccomp`, `consumption`, `workspace`
monty     small programs over tools, in this process; `linked`, `linked_runner` all others
threads   blocking work beside the event loop
per_run   what is kept from call to call while a request runs
schema    JSON Schema as far as tools need it; `fits` says fast what it says in words

A tool gets arguments and gives text, perhaps with pictures; it knows neither agent nor model.
New kind: one file here, one entry point in pyproject.toml, one page in docs/tools/.
"""

from kickwheel.agents.tools.threads import Stopped
from kickwheel.agents.tools.tool import (
    Effects,
    InvalidArguments,
    Limits,
    Pictured,
    Tool,
    Toolbox,
    ToolPart,
)

__all__ = [
    "Effects",
    "InvalidArguments",
    "Limits",
    "Pictured",
    "Stopped",
    "Tool",
    "ToolPart",
    "Toolbox",
]
