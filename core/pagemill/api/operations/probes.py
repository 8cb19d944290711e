"""What load balancers and orchestrators ask: is the process alive, would a request be served, how much runs.

Owns no state. Touches the pool only; never waits for a load.
"""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pagemill import __version__
from pagemill.errors import DrainingError, EngineDeadError, ModelNotReadyError, UnavailableError
from pagemill.store.references import ModelReference

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext


class Probes:
    """The probe routes. Liveness answers as long as the event loop turns; all others speak of serving requests."""

    def __init__(self, context: "ApiContext") -> None:
        self._pool = context.pool
        self._retry_after_s = context.settings.retry_after_s
        self._loading_status = context.settings.ping_loading_status

    async def livez(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """200, or 503 with the reason. Also `/health` (as vLLM's: 503 when the engine is dead)."""
        if not self._pool.ready:
            raise self._unready()
        return JSONResponse({"status": "ok"})

    async def ping(self, request: Request) -> Response:
        """As `readyz`, with a status of the platform's choice while the model loads."""
        if self._pool.loading and self._loading_status != ModelNotReadyError.status:
            return Response(status_code=self._loading_status)
        return await self.readyz(request)

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": __version__})

    async def load(self, request: Request) -> Response:
        """How many requests were accepted and have not ended."""
        num_unfinished = sum(status.model.engine.num_unfinished() for status in self._pool.loaded())
        return JSONResponse({"server_load": num_unfinished})

    def _progress(self) -> str:
        """Of a model that is being fetched."""
        reference = self._pool.default
        known = "" if reference is None or isinstance(reference, ModelReference) else str(reference.progress)
        return f": {known}" if known else ""

    def _unready(self) -> UnavailableError:
        pool = self._pool
        name = "the model" if pool.default is None else pool.default.name
        if not pool.alive:
            return EngineDeadError(
                "the engine stopped on an error; restart the server", retry_after_s=self._retry_after_s
            )
        if pool.failure is not None:
            reason = f"{name} could not be loaded: {pool.failure.message}"
            return ModelNotReadyError(reason, retry_after_s=self._retry_after_s)
        if pool.loading:
            return ModelNotReadyError(f"{name} is loading{self._progress()}", retry_after_s=self._retry_after_s)
        return DrainingError("the server is shutting down", retry_after_s=self._retry_after_s)
