"""/openapi.json: what this server answers, for programs to read (OpenAPI 3.1).

document    the whole, from the routes that there are and what is said of them
operations  what is said of each route: a new door adds its lines there
shapes      what bodies and answers look like

Bodies come from the classes that read them, so they cannot differ; answers are written down, and a
test asks a real server whether they are so.
"""

from kickwheel.serve.contract.document import contract_route, document
from kickwheel.serve.contract.operations import OPERATIONS, Operation

__all__ = ["OPERATIONS", "Operation", "contract_route", "document"]
