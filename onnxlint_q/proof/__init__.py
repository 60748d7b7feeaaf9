"""PROVE: claims tested, cures tried, schemes measured, layer by layer and over trials."""
