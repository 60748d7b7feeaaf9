"""One scale or one bias for things that do not belong together."""
