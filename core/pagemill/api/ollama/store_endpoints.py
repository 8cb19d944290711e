"""The routes that change which models there are: pull, create, copy, delete, blobs. All of it happens in `models_dir`.

Owns what is being pulled. What touches the disk runs in threads.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from pagemill.api.context import ApiContext, exchange
from pagemill.api.errors import ollama_error
from pagemill.api.ollama.lines import error_line
from pagemill.api.ollama.store_requests import (
    SOURCE,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    PullRequest,
    StreamedRequest,
)
from pagemill.api.streaming import NDJSON_MEDIA_TYPE, ItemStream, until_disconnect
from pagemill.api.wire import read_json, shown
from pagemill.errors import (
    DrainingError,
    ForbiddenError,
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
    NotImplementedHereError,
    PagemillError,
    UnsupportedParameterError,
)
from pagemill.store.registry import blobs, creation, manifests, verbs
from pagemill.store.registry.installed import installed_reference, is_installed
from pagemill.store.registry.layers import template_of, with_additions
from pagemill.store.registry.manifests import Manifest
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.pulling import PullOptions, Pulls, Status
from pagemill.store.registry.quantizing import Quantizations

WRITE_BYTES = 2**20  # at once to a blob: worth a turn of a thread
SUCCESS = "success"

Statuses = AsyncGenerator[dict[str, object], None]


class StoreEndpoints:
    """The handlers. A request that may not be made is refused before its body is read."""

    def __init__(self, context: ApiContext) -> None:
        self._pool = context.pool
        self._settings = context.settings
        folder = context.settings.models_dir
        self._folder = None if folder is None else Path(folder).expanduser()
        self._pulls = None if self._folder is None else Pulls(self._folder, PullOptions.of(context.settings))
        self._quantizations: Quantizations | None = None
        if self._folder is not None and context.make_quantizer is not None:
            self._quantizations = Quantizations(self._folder, context.make_quantizer())

    async def pull(self, request: Request) -> ASGIApp:
        self._models_dir()
        assert self._pulls is not None  # where there is a folder
        body = await read_json(request, PullRequest)
        name = body.model_name()
        exchange(request.scope).model = str(name)
        self._pulls.check(name)
        return await self._told(body, request, self._pulled(self._pulls, name, insecure=body.insecure is True))

    async def push(self, request: Request) -> Response:
        raise NotImplementedHereError("push is not supported: models are only pulled from registries")

    async def create(self, request: Request) -> ASGIApp:
        folder = self._models_dir()
        body = await read_json(request, CreateRequest)
        name, source = body.model_name(), body.source()
        exchange(request.scope).model = str(name)
        if source is None:
            make = partial(creation.of_file, folder, body.digest())
        else:
            make = partial(creation.of_model, folder, await self._stored(folder, source, SOURCE))
        if body.template:
            await self._check_template(folder, body.template, source)
        return await self._told(body, request, self._created(folder, name, make, body))

    async def copy(self, request: Request) -> Response:
        folder = self._models_dir()
        body = await read_json(request, CopyRequest)
        destination = ModelName.parse(body.destination, param="destination")
        stored = await self._stored(folder, body.source, "source")
        await asyncio.to_thread(verbs.copy, folder, stored, destination)
        await self._unload_replaced(folder, destination)
        return Response()

    async def delete(self, request: Request) -> Response:
        folder = self._models_dir()
        body = await read_json(request, DeleteRequest)
        stored = await self._stored(folder, body.text(), "model")
        exchange(request.scope).model = str(stored)
        return await until_disconnect(self._deleted(folder, stored), request.receive)

    async def blob(self, request: Request) -> Response:
        folder = self._models_dir()
        digest = blobs.check_digest(request.path_params["digest"], param="digest")
        is_here = await asyncio.to_thread(blobs.is_here, folder, digest)
        if request.method == "HEAD":
            return Response(status_code=200 if is_here else 404)
        if is_here:
            return Response(status_code=200)
        await _keep(request, folder, digest)
        return Response(status_code=201)

    def _models_dir(self) -> Path:
        """
        Raises:
            ForbiddenError: clients may not change it.
            NotImplementedHereError: there is none.
        """
        if self._folder is None:
            raise NotImplementedHereError(
                "models are pulled, created, copied and deleted in the folder models_dir, which is not set"
            )
        allowed = self._settings.manage_models
        if not (self._settings.needs_key if allowed is None else allowed):
            raise ForbiddenError("the models of this server are not for clients to change (manage_models)")
        return self._folder

    async def _stored(self, folder: Path, text: str, param: str) -> ModelName:
        """As it is called there.

        Raises:
            ModelNotFoundError: there is no such model.
            InvalidRequestError: there is, but it was not pulled or created; or the name is none.
        """
        name = ModelName.parse(text, param=param)
        stored = await asyncio.to_thread(manifests.stored_as, folder, name)
        if stored is not None:
            return stored
        with suppress(ModelNotFoundError):
            self._pool.find(text)
            raise InvalidRequestError(
                f"{text} was neither pulled nor created: what lies in a file or folder of its own is yours to manage",
                param=param,
            )
        raise ModelNotFoundError(f"model '{text}' not found", param=param)

    async def _pulled(self, pulls: Pulls, name: ModelName, *, insecure: bool) -> Statuses:
        async with aclosing(pulls.pull(name, insecure=insecure)) as told:
            async for status in told:
                if self._pool.draining:
                    raise DrainingError("the server is shutting down; a later pull goes on from here")
                if status.status == SUCCESS:
                    await self._unload_replaced(self._models_dir(), name)
                yield status.as_json()

    async def _created(
        self, folder: Path, name: ModelName, make: Callable[[], Manifest], body: CreateRequest
    ) -> Statuses:
        """Tells of a model when it is there: what is wrong with the request is then answered by a status of its own."""
        base = weights = await asyncio.to_thread(make)
        if body.quantize:
            async with aclosing(self._quantized(base, body.quantize)) as told:
                async for item in told:
                    if isinstance(item, Manifest):
                        weights = item
                    else:
                        yield item.as_json()
        manifest = await asyncio.to_thread(with_additions, folder, weights, body.additions())
        await asyncio.to_thread(verbs.put, folder, name, manifest)
        await self._unload_replaced(folder, name)
        for layer in manifest.layers:
            yield {"status": f"{'using existing' if layer in base.layers else 'creating new'} layer {layer.digest}"}
        yield {"status": "writing manifest"}
        yield {"status": SUCCESS}

    async def _quantized(self, base: Manifest, kind: str) -> AsyncGenerator[Status | Manifest, None]:
        if self._quantizations is None:
            raise NotImplementedHereError("quantize is not supported: this server has nothing that quantizes")
        plan = await asyncio.to_thread(self._quantizations.plan, base, kind)
        async with aclosing(self._quantizations.run(plan)) as told:
            async for item in told:
                if self._pool.draining:
                    raise DrainingError("the server is shutting down; ask again for the model to be quantized")
                yield item

    async def _check_template(self, folder: Path, template: str, source: str | None) -> None:
        """
        Raises:
            UnsupportedParameterError: it is another than that of the model that is copied.
        """
        if source is not None:
            name = await self._stored(folder, source, SOURCE)
            manifest = await asyncio.to_thread(manifests.read, folder, name)
            known = [await asyncio.to_thread(template_of, folder, manifest)]
            async with self._pool.lease(str(name)) as model:
                known += [] if model.chat_template is None else [model.chat_template.source]
            if template.strip() in (text.strip() for text in known):
                return
        message = f"template is not supported: a model's own chat template is used, got {shown(template)}"
        raise UnsupportedParameterError(message, param="template")

    async def _deleted(self, folder: Path, name: ModelName) -> Response:
        with suppress(ModelNotFoundError):  # one that can't be served
            if is_installed(folder, self._pool.find(str(name))):
                await self._pool.unload(str(name))
        await asyncio.to_thread(verbs.delete, folder, name)
        return Response()

    async def _unload_replaced(self, folder: Path, name: ModelName) -> None:
        """A model that is loaded under a name that now means another; requests that run end with the old one."""
        for status in self._pool.loaded():
            reference = status.model.reference
            if reference.name.casefold() == str(name).casefold() and is_installed(folder, reference):
                with suppress(ModelNotFoundError, ModelLoadError):
                    now = await asyncio.to_thread(installed_reference, folder, name, reference.aliases)
                    if (now.path, now.defaults) != (reference.path, reference.defaults):
                        await self._pool.unload(reference.name)

    async def _told(self, body: StreamedRequest, request: Request, statuses: Statuses) -> ASGIApp:
        if body.streamed:
            return ItemStream(_lines(statuses), media_type=NDJSON_MEDIA_TYPE, render_error=_render_error)
        return JSONResponse(await until_disconnect(_last(statuses), request.receive))


async def _keep(request: Request, folder: Path, digest: str) -> None:
    """The request's body as a blob, a piece at a time."""
    upload = blobs.Upload(folder, digest)
    pending = bytearray()
    try:
        await _finished(upload.begin)
        async for chunk in request.stream():
            pending += chunk
            if len(pending) >= WRITE_BYTES:
                await _finished(partial(upload.write, bytes(pending)))
                pending.clear()
        await _finished(partial(upload.write, bytes(pending)))
        await _finished(upload.keep)
    finally:
        upload.close()


async def _finished(work: Callable[[], None]) -> None:
    """In a thread, to its end: also when we are cancelled, since what it uses is then closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait({task})


async def _lines(statuses: Statuses) -> AsyncGenerator[bytes, None]:
    async with aclosing(statuses):
        async for status in statuses:
            yield json.dumps(status, separators=(",", ":")).encode() + b"\n"


async def _last(statuses: Statuses) -> dict[str, object]:
    last: dict[str, object] = {}
    async with aclosing(statuses):
        async for status in statuses:
            last = status
    return last


def _render_error(error: PagemillError) -> bytes:
    return error_line(ollama_error(error))
