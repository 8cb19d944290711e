"""The servers that are compared: how to get each of them, and the command that starts it with given settings."""
