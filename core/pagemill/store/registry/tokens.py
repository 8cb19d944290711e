"""What a registry says of the token that it wants: RFC 6750, and Docker's protocol for tokens. Owns no state."""

import json
import re
from typing import NamedTuple
from urllib.parse import urlencode

from pagemill.errors import FetchError

PARAMETER = re.compile(r'(\w+)="([^"]*)"')


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
