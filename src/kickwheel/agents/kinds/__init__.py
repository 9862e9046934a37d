"""How an agent works: each kind its own way from a question to an answer.

tool_loop   the model calls tools until it can answer
react       the same as plain text, for models that know no tool calls
code        the model writes one program over the tools
plan        a plan first; independent steps at once; a new plan when one fails
vote        several answers, and the one that most agree on
router      chooses one of several agents, which answers
graph       nodes and edges; what is independent runs at once
handoff     agents pass the conversation on to each other
human       a person answers, and the run waits for them
a2a         an agent that answers elsewhere (`a2a_link`: the connection; `a2a_followed`: a question
            and what becomes of it; `a2a_reply`: what was said)

Every kind tells its work in the events of `agents.events`, and answers like a model.
New kind: one file here, one entry point in pyproject.toml, one page in docs/agents/.
"""
