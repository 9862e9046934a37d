"""/v1/health/live and /v1/health/ready, open to everybody."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.serve.house import House


def health_routes(house: House) -> list[Route]:
    """The routes of health, in the shape of a NIM."""

    async def live(request: Request) -> JSONResponse:
        return _health("Service is live.", "live", 200)

    async def ready(request: Request) -> JSONResponse:
        missing = house.ready()
        if missing is None:
            return _health("Service is ready.", "ready", 200)
        return _health(missing, "not_ready", 503)

    return [Route("/v1/health/live", live), Route("/v1/health/ready", ready)]


def _health(message: str, status: str, code: int) -> JSONResponse:
    body = {"object": "health.response", "message": message, "status": status}
    return JSONResponse(body, status_code=code)
