"""A removal request: from a model and some texts to an unlearned model and a certificate."""

from pipeline_lib.removal.request import Request
from pipeline_lib.removal.run import Outcome, forget, ready

__all__ = ["Outcome", "Request", "forget", "ready"]
