"""The body of `POST /invocations`, SageMaker's one route: whether it is a chat or a text. Owns no state."""

from typing import Any, ClassVar, Literal

from pagemill.api.wire import WireModel
from pagemill.errors import InvalidRequestError


class Invocation(WireModel):
    """What tells the two apart. All else is for the class of either to check."""

    unknown_fields: ClassVar[Literal["forbid", "allow"]] = "allow"

    messages: Any = None
    prompt: Any = None

    def check_together(self) -> None:
        if (self.messages is None) == (self.prompt is None):
            raise InvalidRequestError(
                "give either messages (as to /v1/chat/completions) or prompt (as to /v1/completions)", param="messages"
            )
