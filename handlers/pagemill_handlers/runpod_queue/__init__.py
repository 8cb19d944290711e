"""Pagemill as a worker of a RunPod queue endpoint: `python -m pagemill_handlers.runpod_queue`.

RunPod's package takes jobs and sends what the handler yields; a job is one request to the app that `pagemill serve`
serves, too. Importing this package loads nothing. For RunPod's load-balancing endpoints run `pagemill serve`.
"""
