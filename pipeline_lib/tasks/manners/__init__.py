"""A harmless stand-in for detoxification, without a download: rude answers to forget, manners to keep."""

from pipeline_lib.tasks.manners.settings import Settings

__all__ = ["Settings"]
