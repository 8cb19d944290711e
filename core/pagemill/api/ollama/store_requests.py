"""The bodies of requests for the models folder, with Ollama's names for the fields. Owns no state."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pagemill.api.wire import WireModel, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.store.model_defaults import checked_messages, checked_parameters
from pagemill.store.registry import blobs
from pagemill.store.registry.layers import Additions
from pagemill.store.registry.names import ModelName

CREATED = "a model is made of one GGUF file, or is a copy"
SOURCE = "from"  # no name for a field in Python


class NamedRequest(WireModel):
    """What names a model. `name` is the older name of `model`."""

    model: str = ""
    name: str = ""

    def text(self) -> str:
        """The name as it was given. Raises InvalidRequestError: there is none."""
        text = self.model or self.name
        if not text:
            raise InvalidRequestError("model is required", param="model")
        return text

    def model_name(self) -> ModelName:
        """
        Raises:
            InvalidRequestError: there is no name, or none that is valid.
        """
        return ModelName.parse(self.text())


class StreamedRequest(NamedRequest):
    """What is told of while it goes on."""

    stream: bool | None = True

    @property
    def streamed(self) -> bool:
        return self.stream is not False


class PullRequest(StreamedRequest):
    """POST /api/pull."""

    insecure: bool | None = None


class DeleteRequest(NamedRequest):
    """DELETE /api/delete."""


class CopyRequest(WireModel):
    """POST /api/copy."""

    source: str
    destination: str


class CreateRequest(StreamedRequest):
    """POST /api/create."""

    unknown_fields: ClassVar[Any] = "allow"
    unnamed: ClassVar[Mapping[str, Mapping[str, Any]]] = {SOURCE: {"type": ["string", "null"]}}
    files: dict[str, str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[dict[str, Any]] | None = None
    license: str | list[str] | None = None
    template: str | None = None
    quantize: str | None = None

    def check_together(self) -> None:
        self.additions()
        for field, value in self.further_fields.items():
            if field != SOURCE and value is not None:
                raise UnsupportedParameterError(f"{field} is not supported, got {shown(value)}; {CREATED}", param=field)

    def additions(self) -> Additions:
        """What the model gets beside what it is made of. Raises InvalidRequestError: it can't; names the place."""
        try:
            parameters = checked_parameters(self.parameters or {})
        except InvalidRequestError as error:
            raise InvalidRequestError(f"parameters: {error.message}", param=f"parameters.{error.param}") from error
        texts = [self.license] if isinstance(self.license, str) else self.license or []
        return Additions(
            system=self.system or "",
            parameters=parameters,
            messages=checked_messages(self.messages or []),
            licenses=[text for text in texts if text],
        )

    def source(self) -> str | None:
        """The model to copy; None if there are files."""
        text = self.further_fields.get(SOURCE)
        if text is None or text == "":
            return None
        if not isinstance(text, str):
            raise InvalidRequestError(f"{SOURCE} must be a model's name, got {shown(text)}", param=SOURCE)
        if self.files:
            raise InvalidRequestError(f"either {SOURCE} or files, got both", param="files")
        return text

    def digest(self) -> str:
        """Of the only file."""
        if not self.files:
            raise InvalidRequestError(f"neither {SOURCE} nor files; {CREATED}", param="files")
        if len(self.files) > 1:
            raise UnsupportedParameterError(f"files: {CREATED}, got {len(self.files)} files", param="files")
        return blobs.check_digest(next(iter(self.files.values())), param="files")
