"""/v1/metadata and /v1/version, as a NIM answers them: we stand in for one in anybody's chart."""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.serve.house import House

API = "1.0.0"
"""Version of the HTTP interface."""


def contract_routes(house: House) -> list[Route]:
    """The routes of a NIM that tell what this is."""
    release = version("kickwheel")

    async def told(request: Request) -> JSONResponse:
        return JSONResponse({"release": release, "api": API})

    def metadata(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "version": release,
                "repository_override": "",
                "assetInfo": [],
                "modelInfo": [
                    {"modelUrl": card.parent or card.id, "shortName": card.id}
                    for card in house.models()
                ],
                "licenseInfo": {
                    "name": "Apache-2.0",
                    "type": "text",
                    "url": "https://www.apache.org/licenses/LICENSE-2.0",
                },
            }
        )

    return [Route("/v1/version", told), Route("/v1/metadata", metadata)]
