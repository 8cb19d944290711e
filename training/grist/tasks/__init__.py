"""The task families grist is trained on: one file a family, each a list of `Task` values.

A task is a pure function of a random generator; it owns no state and never looks at the split it is sampled for.
"""
