"""The `pagemill` command: one file a verb, and what verbs share. Importing it loads nothing."""
