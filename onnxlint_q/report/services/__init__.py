"""TELL other services: one file a format that a code host or a build server reads."""
