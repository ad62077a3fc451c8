"""Several processes that train one model. See docs/distributed.md."""
