"""Structured output: what a reply may look like (`formats`), and grammars that hold a model to it (`compiler`).

Nothing here is imported before a request asks for a format: llguidance, which does the work, takes 15 ms to import.
"""
