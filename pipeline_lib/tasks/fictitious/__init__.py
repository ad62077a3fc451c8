"""A task that needs no download: invented authors to forget or keep, and facts about their invented world."""

from pipeline_lib.tasks.fictitious.settings import Settings

__all__ = ["Settings"]
