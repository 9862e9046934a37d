"""The concierge in plain LangGraph, as it stands beside `blueprints/concierge/app.yml`.

    python concierge_langgraph.py MODEL_URL TRAFFIC.jsonl PORT

The same services (`backend.offered`, `world.answer` are the application's own and count for
neither), the same model at an OpenAI-compatible URL, the services' own words as the answer, served
over OpenAI's chat protocol, whole and streamed. What kickwheel does beside that (traces, kept runs,
budgets, retries, keys, errors in OpenAI's form, a tuned model that moves) is left out here.
`python bench/agents/lines.py` counts.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "blueprints" / "concierge"))

import backend
import uvicorn
import world
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MESSAGES = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage}


def tool(spec: backend.ToolSpec) -> StructuredTool:
    async def call(**arguments: object) -> str:
        return world.answer(spec.name, arguments)

    return StructuredTool(
        name=spec.name,
        description=spec.description or spec.name,
        args_schema=dict(spec.parameters),
        coroutine=call,
    )


def graph(url: str, traffic: Path):
    tools = [tool(spec) for spec in backend.offered(traffic)]
    model = ChatOpenAI(model="concierge", base_url=url, api_key="none", stream_usage=True)
    bound = model.bind_tools(tools, tool_choice="required")

    async def ask(state: MessagesState) -> dict:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    built = StateGraph(MessagesState)
    built.add_node("ask", ask)
    built.add_node("tools", ToolNode(tools))
    built.add_edge(START, "ask")
    built.add_edge("ask", "tools")
    built.add_edge("tools", END)
    return built.compile()


def app(url: str, traffic: Path) -> Starlette:
    agent = graph(url, traffic)

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "concierge", "object": "model"}]})

    async def chat(request: Request) -> Response:
        asked = await request.json()
        messages = [MESSAGES[m["role"]](m["content"]) for m in asked["messages"]]
        ended = await agent.ainvoke({"messages": messages})
        new = ended["messages"][len(messages) :]
        text = "\n".join(m.content for m in new if isinstance(m, ToolMessage))
        counted = [m.usage_metadata for m in new if isinstance(m, AIMessage) and m.usage_metadata]
        usage = {
            "prompt_tokens": sum(c["input_tokens"] for c in counted),
            "completion_tokens": sum(c["output_tokens"] for c in counted),
            "total_tokens": sum(c["total_tokens"] for c in counted),
        }
        head = {"id": "chatcmpl-1", "created": int(time.time()), "model": "concierge"}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            return JSONResponse(body)

        async def pieces():
            delta = {"role": "assistant", "content": text}
            for part, reason in ((delta, None), ({}, "stop")):
                choice = {"index": 0, "delta": part, "finish_reason": reason}
                chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
                yield f"data: {json.dumps(chunk)}\n\n"
            if (asked.get("stream_options") or {}).get("include_usage"):
                chunk = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
                yield f"data: {json.dumps(chunk)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[1], Path(sys.argv[2])), port=int(sys.argv[3]), log_level="warning")
