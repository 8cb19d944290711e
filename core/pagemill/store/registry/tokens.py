"""The tokens that registries want: those that the settings have for a host, and what a registry says of one that it
gives to everybody (RFC 6750, and Docker's protocol for tokens). Owns no state.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from pagemill.errors import FetchError

HUGGING_FACE = ("hf.co", "huggingface.co")
HUGGING_FACE_VARIABLE = "HF_TOKEN"  # as its own libraries have it
PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def tokens_by_host(registry_tokens: Sequence[str], environment: Mapping[str, str]) -> Mapping[str, str]:
    """Of the setting, which was checked, and for Hugging Face else of its variable. Hosts are in small letters."""
    common = environment.get(HUGGING_FACE_VARIABLE, "").strip()
    found = dict.fromkeys(HUGGING_FACE, common) if common.isascii() and common.isprintable() and common else {}
    for text in registry_tokens:
        host, _, token = text.partition("=")
        found[host.casefold()] = token
    return found


class Challenge(NamedTuple):
    """The `WWW-Authenticate` header of an answer 401."""

    realm: str
    parameters: tuple[tuple[str, str], ...]  # the others that the realm is to be told: service, scope

    @classmethod
    def parse(cls, header: str) -> "Challenge | None":
        """None if it asks for no token, or for one of another kind."""
        scheme, _, rest = header.partition(" ")
        found = PARAMETER.findall(rest)
        realm = dict(found).get("realm")
        if scheme.lower() != "bearer" or realm is None:
            return None
        return cls(realm, tuple((name, value) for name, value in found if name in ("service", "scope")))

    def url(self) -> str:
        """Where the token is to be had."""
        return f"{self.realm}{'&' if '?' in self.realm else '?'}{urlencode(self.parameters)}"

    def token_in(self, answer: bytes) -> str:
        """
        Raises:
            FetchError: there is none.
        """
        try:
            data = json.loads(answer)
            token = data.get("token") or data["access_token"]
        except (ValueError, LookupError, AttributeError) as error:
            raise FetchError(f"{self.realm} was asked for a token and answers with none") from error
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise FetchError(f"{self.realm} was asked for a token and answers with none")
        return token
