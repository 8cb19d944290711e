"""Load tests: a light streaming client, scenarios, the servers to compare with, and reports. Run from the repository
root: `python -m load_tests.compare --help`. Nothing here is imported by `pagemill`.
"""
