"""Handlers: one file per runtime that can host Pagemill, each an adapter between that runtime's events and the core.

Nothing is imported here, so that a runtime loads only its own adapter.
"""
