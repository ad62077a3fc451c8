"""A task that needs no download: invented authors to forget or keep, and facts about their invented world."""

from pipeline_lib.data.fictitious.generate import generate, load

__all__ = ["generate", "load"]
