"""A network run as if every tensor were stored as float16."""
