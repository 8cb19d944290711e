"""`/v1/models` as Anthropic's clients know it. Owns no state."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pagemill.api.model_names import shown_names
from pagemill.api.wire import shown
from pagemill.errors import InvalidRequestError

if TYPE_CHECKING:
    from pagemill.api.context import ApiContext
    from pagemill.store.references import Reference

DEFAULT_PAGE, MAX_PAGE = 20, 1000
EPOCH = datetime.fromtimestamp(0, UTC)


def listing(context: "ApiContext", query: Mapping[str, str]) -> dict[str, Any]:
    """A page of the models. The query may have `limit`, and `after_id` or `before_id`.

    Raises:
        InvalidRequestError: one of them is wrong.
    """
    models = [
        model(context, name, reference)
        for reference in context.pool.references()
        for name in shown_names(reference, context.settings)
    ]
    limit = _limit(query.get("limit", str(DEFAULT_PAGE)))
    ids = [found["id"] for found in models]
    if "before_id" in query:
        models = models[: _position(ids, query, "before_id")]
        page = models[-limit:]
    else:
        models = models[_position(ids, query, "after_id") + 1 :] if "after_id" in query else models
        page = models[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"data": page, "has_more": len(page) < len(models), **ends}


def model(context: "ApiContext", name: str, reference: "Reference") -> dict[str, Any]:
    """One model, by that name."""
    loaded = [status.model for status in context.pool.loaded() if status.model.reference is reference]
    room = loaded[0].engine.max_model_len if loaded else None
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": (reference.modified_at or EPOCH).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": room,
        "max_tokens": room,
    }


def _position(ids: list[str], query: Mapping[str, str], name: str) -> int:
    if query[name] not in ids:
        raise InvalidRequestError(f"{name} {shown(query[name])} is no model of this server", param=name)
    return ids.index(query[name])


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise InvalidRequestError(f"limit must be 1 to {MAX_PAGE}, got {shown(text)}", param="limit")
    return int(text)
