"""The task TOFU."""

from pipeline_lib.tasks.tofu.settings import Settings

__all__ = ["Settings"]
