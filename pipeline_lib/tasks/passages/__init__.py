"""The task of copyright removal: a model forgets passages of a book that it has learned word for word."""

from pipeline_lib.tasks.passages.settings import Settings

__all__ = ["Settings"]
