"""The rows of what was read, laid out once for every format: tables for people, documents for programs."""
