"""Python imports this when it starts: the variation reaches the processes that tests start."""

import variation

variation.install()
