"""What the OpenAPI document says of the chat page. Owns no state."""

from pagemill.api.documentation import ANY_REQUEST, HTML, TEXT, Answer, Dialect, Operation, Parameter

ERRORS = tuple(status for status in ANY_REQUEST if status not in (401, 429))
CACHED = Answer("The client has it.", headers={"etag": "What the file is called while it does not change."})
TYPES = (HTML, "text/css", "text/javascript", "image/svg+xml")
KNOWN = Parameter("if-none-match", "header", "The ETags of files that the client has.")

UI = Dialect(
    "ui",
    "The chat page for browsers.",
    {
        "GET /ui": Operation(
            "To the page",
            {307: Answer("It is there.", headers={"location": "Where."})},
            errors=ERRORS,
            is_open=True,
        ),
        "GET /ui/": Operation(
            "The page",
            {200: Answer("The page.", {HTML: TEXT}), 304: CACHED},
            errors=ERRORS,
            parameters=[KNOWN],
            is_open=True,
        ),
        "GET /ui/{name}": Operation(
            "A file of the page",
            {200: Answer("The file.", dict.fromkeys(TYPES, TEXT)), 304: CACHED},
            errors=(*ERRORS, 404),
            parameters=[KNOWN],
            is_open=True,
        ),
    },
    {},
)
