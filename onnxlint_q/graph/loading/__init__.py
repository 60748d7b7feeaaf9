"""From a path to a parsed, trusted ModelProto, and from there to a Model."""
