"""What clouds take and what their clients can read, judged by the official SDKs' own types.

shapes     values against the types of an SDK, closed: what the type does not name is a fault
talk       what Anthropic and Bedrock demand of a conversation beyond its shape
anthropic  requests and events of the Messages protocol
bedrock    requests and events of ConverseStream, by the service model that botocore carries
openai     requests to OpenAI, and what our server answers

Each gives a list of faults, empty where there are none. The stub of `tests.models.loopback` refuses
a request that has any, as the cloud would; `tests.serve.conftest.running` fails a test whose
server answered what the official client's types do not have.
"""

import re
from typing import Any
from urllib.parse import unquote

_CONVERSED = re.compile(r"/model/(.+)/converse-stream")


def faults_asked(path: str, body: Any) -> list[str]:
    """What the cloud whose path this is would not take; nothing where it is none's."""
    from tests.wires import anthropic, bedrock, openai  # Whoever asks one needs not all SDKs.

    conversed = _CONVERSED.fullmatch(unquote(path))
    if conversed:
        return bedrock.asked(body, conversed[1])
    if path.endswith("/v1/messages"):
        return anthropic.asked(body)
    return openai.asked(path, body) if isinstance(body, dict) else []
