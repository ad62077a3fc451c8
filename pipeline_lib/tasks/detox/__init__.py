"""The task of detoxification on PKU-SafeRLHF: forget the answers that people marked as unsafe."""

from pipeline_lib.tasks.detox.settings import Settings

__all__ = ["Settings"]
