"""Results as values that the json module can write: keys that consumers depend on."""
