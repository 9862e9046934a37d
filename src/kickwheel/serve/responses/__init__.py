"""/v1/responses: OpenAI's newer protocol, with responses that are kept.

request    what is asked, read and checked
unfolding  a response as it comes into being, and the events of its stream
kept       responses in the store
background responses that go on while nobody waits
routes     what callers reach

Items to messages: `records.responses`. Behind it stands the same as behind chat.
"""

from kickwheel.serve.responses.routes import Responses, response_routes

__all__ = ["Responses", "response_routes"]
