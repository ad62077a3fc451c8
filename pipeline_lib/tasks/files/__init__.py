"""The task of own files."""

from pipeline_lib.tasks.files.settings import Settings

__all__ = ["Settings"]
