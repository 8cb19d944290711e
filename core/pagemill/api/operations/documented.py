"""What the OpenAPI document says of the operations' routes. Owns no state."""

from pagemill.api.documentation import (
    ANY_REQUEST,
    INTEGER,
    JSON,
    OBJECT,
    PLAIN,
    PROBE,
    TEXT,
    Answer,
    Dialect,
    Operation,
    answered,
    list_of,
    nullable,
    one_of,
    record,
    ref,
)
from pagemill.api.operations.tokenization import DetokenizeRequest, TokenizeRequest

ALIVE = {200: Answer("It is.", {JSON: ref("operations.Status")})}
PING = ALIVE | {204: Answer("The model is loading, where `ping_loading_status` says that this is told so.")}
READY = Operation("Whether a request would be served", ALIVE, errors=PROBE, is_open=True)
PINGED = Operation("Whether a request would be served", PING, errors=PROBE, is_open=True)

OPERATIONS = Dialect(
    "operations",
    "Probes, metrics and the tokenizer.",
    {
        "GET /livez": Operation("Whether the process is alive", ALIVE, errors=PROBE, is_open=True),
        "GET /readyz": READY,
        "GET /health": READY,
        "GET /ping": PINGED,
        "POST /ping": PINGED,
        "GET /version": Operation("The version of the server", answered("operations.Version"), errors=ANY_REQUEST),
        "GET /load": Operation("How many requests have not ended", answered("operations.Load"), errors=ANY_REQUEST),
        "GET /metrics": Operation(
            "Metrics for Prometheus",
            {200: Answer("In the format that was asked for.", {PLAIN: TEXT, "application/openmetrics-text": TEXT})},
            errors=ANY_REQUEST,
        ),
        "GET /openapi.json": Operation(
            "This document", {200: Answer("OpenAPI 3.1.", {JSON: OBJECT})}, errors=ANY_REQUEST
        ),
        "POST /tokenize": Operation(
            "The tokens of a text or a conversation",
            answered("operations.Tokens"),
            body=TokenizeRequest,
            example={"prompt": "Once upon a time"},
        ),
        "POST /detokenize": Operation(
            "The text of tokens", answered("operations.Text"), body=DetokenizeRequest, example={"tokens": [1, 2, 3]}
        ),
    },
    {
        "Status": record({"status": one_of("ok")}),
        "Version": record({"version": TEXT}),
        "Load": record({"server_load": INTEGER}),
        "Tokens": record(
            {
                "count": INTEGER,
                "max_model_len": INTEGER,
                "tokens": list_of(INTEGER),
                "token_strs": nullable(list_of(TEXT)),
            }
        ),
        "Text": record({"prompt": TEXT}),
    },
)
