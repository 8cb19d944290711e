"""The errors that Pagemill raises, each with the HTTP status and wire code that a client sees.

Owns no state and imports nothing of Pagemill. A dialect turns any `PagemillError` into its own error shape in one
place; library exceptions are translated at the boundary where they arise (`raise ... from error`).
"""

from typing import ClassVar


class PagemillError(Exception):
    """Root of all errors. `param` names the request field at fault, where there is one."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequestError(PagemillError):
    """The request has a wrong or inconsistent value; the message names the field and the value."""

    status = 400
    code = "invalid_value"
    type = "invalid_request_error"


class UnsupportedParameterError(InvalidRequestError):
    """The request asks for something that this server does not do. It is never ignored in silence."""

    code = "unsupported_parameter"


class ThreadUnsupportedError(UnsupportedParameterError):
    """A conversation was to be kept between its turns. Anthropic's clients know the code, and then send all of it."""

    code = "thread_unsupported_request"


class ContextLengthError(InvalidRequestError):
    """The prompt (or prompt and `max_tokens`) does not fit the model's context."""

    code = "context_length_exceeded"


class AuthenticationError(PagemillError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class ForbiddenError(PagemillError):
    """The request comes from where none may come from."""

    status = 403
    code = "forbidden"
    type = "permission_error"


class NotFoundError(PagemillError):
    """No such route or object."""

    status = 404
    code = "not_found"
    type = "not_found_error"


class ModelNotFoundError(NotFoundError):
    """No model of that name is served or stored here."""

    code = "model_not_found"


class MethodNotAllowedError(PagemillError):
    """The route exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"


class PayloadTooLargeError(PagemillError):
    """The request body is larger than the `max_body_bytes` setting."""

    status = 413
    code = "payload_too_large"
    type = "invalid_request_error"


class UnavailableError(PagemillError):
    """The server can't take this request now; `retry_after_s` becomes the Retry-After header."""

    status = 503
    code = "unavailable"
    type = "server_error"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFullError(UnavailableError):
    """As many requests wait as the `max_num_queued_reqs` setting allows."""

    code = "queue_full"


class RateLimitError(UnavailableError):
    """This client has asked as much as it may: the `max_requests_per_minute` or `max_concurrent_requests` setting."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"


class ModelNotReadyError(UnavailableError):
    """The model is still loading, or its load failed (the message says which)."""

    code = "model_not_ready"


class DrainingError(UnavailableError):
    """The server is shutting down and takes no new requests."""

    code = "draining"


class EngineDeadError(UnavailableError):
    """The step loop stopped on an error; the process should be restarted."""

    code = "engine_dead"


class NotImplementedHereError(PagemillError):
    """The route exists for clients that know it from elsewhere; this server does not do what it is for."""

    status = 501
    code = "not_implemented"


class RequestTimeoutError(PagemillError):
    """The request ran past the `request_timeout_s` setting."""

    status = 504
    code = "timeout"


class BackendError(PagemillError):
    """The backend failed while it ran a step."""

    code = "backend_error"


class StructuredOutputError(PagemillError):
    """An output's format could not be held to its end: it grew too complex, or no token of the model continues it."""

    code = "structured_output_failed"


class ModelLoadError(PagemillError):
    """A model could not be loaded; the message names the file and the reason."""

    code = "model_load_failed"


class FetchError(ModelLoadError):
    """Where a model is to come from does not answer, or answers with what it must not."""

    status = 502
    code = "fetch_failed"


class NoSpaceError(ModelLoadError):
    """The disk has no room for a model."""

    status = 507
    code = "no_space"


class ModelTooLargeError(ModelLoadError):
    """The model takes more memory than all models together may; the message gives the numbers."""

    code = "model_too_large"


class SettingsError(PagemillError):
    """A flag, environment variable or settings file has a wrong value; the message names its source."""

    code = "invalid_settings"
