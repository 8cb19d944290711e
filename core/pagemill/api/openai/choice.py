"""One choice of an unstreamed response, put together from its deltas. A `Choice` owns its parts."""

from pagemill.generation import Delta, FinishReason, TokenLogprobs


class Choice:
    """Filled by `add` until `finish_reason` is set."""

    __slots__ = ("_texts", "finish_reason", "logprobs", "prompt_logprobs", "stop_reason", "token_ids")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None

    def add(self, delta: Delta) -> None:
        """Take in what a step added."""
        self._texts.append(delta.text)
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = delta.prompt_logprobs
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.stop_reason = delta.stop_reason

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)
