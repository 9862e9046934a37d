"""LlamaIndex's agents."""

from typing import Any

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from tests.bridges import checks, desk
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import llamaindex


class LlamaIndex:
    name = "LlamaIndex"
    packages = ("llama-index-core", "llama-index-llms-openai-like")
    kind = "llamaindex"
    bridge = llamaindex
    telemetry = Telemetry(
        dialect="OpenInference",
        package="openinference-instrumentation-llama-index",
        counts_streams=False,
    )
    differs = "`strict: false` is added"
    known = staticmethod(checks.not_strict)

    def model(self, url: str) -> Any:
        return OpenAILike(
            model="stub",
            api_base=url,
            api_key="sk-stub",
            is_chat_model=True,
            is_function_calling_model=True,
        )

    def tool(self) -> Any:
        return FunctionTool.from_defaults(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return FunctionAgent(llm=model, tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent.streaming = streamed
        run = agent.run(user_msg=question)
        said = ""
        async for event in run.stream_events():
            said += event.delta if isinstance(event, AgentStream) else ""
        whole = str(await run)
        return said if streamed else whole


FRAMEWORK = LlamaIndex()


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestLlamaIndex(Truths):
    """All of them."""
