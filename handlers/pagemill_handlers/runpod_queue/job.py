"""A job's input as the HTTP request that it stands for.

Owns no state. Two forms: `{"openai_route": PATH, "openai_input": BODY}`, which RunPod's OpenAI-compatible gateway sends
(as its worker for vLLM has it), and a body by itself, of a chat or a text.
"""

from typing import Any, NamedTuple

from pagemill.errors import InvalidRequestError

ROUTE_FIELD = "openai_route"
BODY_FIELD = "openai_input"
OPENAI_PREFIX = "/v1/"
ANY_COMPLETION = "/invocations"  # takes the body of either kind


class JobRequest(NamedTuple):
    """Method, path and JSON body. What streams is sent as text if `raw`, else as the objects in it."""

    method: str
    path: str
    body: dict[str, Any] | None
    raw: bool


def request_of(job_input: object) -> JobRequest:
    """The request that the input asks for.

    Raises:
        InvalidRequestError: it asks for none; names the field and the value.
    """
    if not isinstance(job_input, dict):
        raise InvalidRequestError(f"input must be an object, got {type(job_input).__name__}", param="input")
    if ROUTE_FIELD not in job_input:
        return JobRequest("POST", ANY_COMPLETION, job_input, raw=False)
    route, body = job_input[ROUTE_FIELD], job_input.get(BODY_FIELD)
    if not isinstance(route, str) or not route.startswith(OPENAI_PREFIX):
        raise InvalidRequestError(f"{ROUTE_FIELD} must begin with {OPENAI_PREFIX}, got {route!r}", param=ROUTE_FIELD)
    if not isinstance(body, dict | None):
        raise InvalidRequestError(f"{BODY_FIELD} must be an object, got {type(body).__name__}", param=BODY_FIELD)
    return JobRequest("POST" if body else "GET", route, body or None, raw=True)
