"""Servers for the API's tests: `serve` starts one with any backend and settings; `server` is one with the defaults, and
`parrots` one whose model answers with what it was asked, shared by a module's tests.
"""

from support.api_fixtures import parrots, serve, server

__all__ = ["parrots", "serve", "server"]
