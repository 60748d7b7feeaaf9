"""Why a weight is bad: what a batch normalisation did to its channels, and what followed."""
