"""What an agent says of itself."""

from importlib.metadata import version

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from kickwheel.agents.work import Worker
from kickwheel.serve.a2a.parts import JSON, TEXT

BINDINGS = (("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"))


def card(agent: Worker, url: str, *, keyed: bool) -> AgentCard:
    """The agent's card.

    Args:
        url: where it is asked.
        keyed: whether the server wants an API key.
    """
    about = agent.description or f"The agent {agent.name}."
    shown = AgentCard(
        name=agent.name,
        description=about,
        version=version("kickwheel"),
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version=spoken)
            for binding, spoken in BINDINGS
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True),
        default_input_modes=[TEXT, JSON],
        default_output_modes=[JSON if agent.formed else TEXT],
        skills=[AgentSkill(id=agent.name, name=agent.name, description=about, tags=["agent"])],
    )
    if keyed:
        bearer = HTTPAuthSecurityScheme(scheme="Bearer", description="The server's API key.")
        shown.security_schemes["key"].CopyFrom(SecurityScheme(http_auth_security_scheme=bearer))
        shown.security_requirements.append(SecurityRequirement(schemes={"key": StringList()}))
    return shown
