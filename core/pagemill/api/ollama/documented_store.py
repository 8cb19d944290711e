"""What the OpenAPI document says of the routes that change which models there are. Owns no state."""

from pagemill.api.documentation import (
    ANY_REQUEST,
    BYTES,
    INTEGER,
    JSON,
    NDJSON,
    TEXT,
    Answer,
    Operation,
    Parameter,
    any_of,
    record,
    ref,
)
from pagemill.api.ollama.store_requests import CopyRequest, CreateRequest, DeleteRequest, PullRequest

ERRORS = (*ANY_REQUEST, 404, 501, 503, 507)
STATUS, STATUSES = ref("ollama.Status"), any_of(ref("ollama.Status"), ref("ollama.Error"))
TOLD = {200: Answer("The last status, or a stream of all.", {JSON: STATUS, NDJSON: STATUSES})}
DONE = {200: Answer("It is done.")}
DIGEST = Parameter("digest", "path", "Of the file's bytes: `sha256:` and 64 hexadecimal digits.")

STORE_SCHEMAS = {"Status": record({"status": TEXT}, {"digest": TEXT, "total": INTEGER, "completed": INTEGER})}
STORE = {
    "POST /api/pull": Operation(
        "Fetch a model from a registry",
        TOLD,
        body=PullRequest,
        errors=(*ERRORS, 502),
        example={"model": "smollm2:135m"},
    ),
    "POST /api/push": Operation("Not supported: models are only pulled", {}, errors=ERRORS),
    "POST /api/create": Operation(
        "Make a model of a GGUF file that was sent as a blob, or of another model; quantized, if asked for",
        TOLD,
        body=CreateRequest,
        errors=ERRORS,
        example={"model": "mine", "from": "smollm2:135m", "system": "Be brief.", "parameters": {"temperature": 0.2}},
    ),
    "POST /api/copy": Operation(
        "Give a model another name",
        DONE,
        body=CopyRequest,
        errors=ERRORS,
        example={"source": "smollm2:135m", "destination": "mine"},
    ),
    "DELETE /api/delete": Operation(
        "Delete a model", DONE, body=DeleteRequest, errors=ERRORS, example={"model": "mine"}
    ),
    "HEAD /api/blobs/{digest}": Operation(
        "Whether a file is here",
        {200: Answer("It is."), 404: Answer("It is not.")},
        errors=[status for status in ERRORS if status != 404],
        parameters=[DIGEST],
    ),
    "POST /api/blobs/{digest}": Operation(
        "Send a file",
        {200: Answer("It was here."), 201: Answer("It is here now.")},
        body=BYTES,
        errors=ERRORS,
        parameters=[DIGEST],
    ),
}
