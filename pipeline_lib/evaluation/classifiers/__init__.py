"""Classifiers of text behind one interface; which of them may judge what is in `validation.py`."""

from __future__ import annotations

from typing import Any

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.classifiers.base import TextClassifier, Verdict
from pipeline_lib.evaluation.classifiers.hub import load_hub_classifier
from pipeline_lib.evaluation.classifiers.profanity_check import ProfanityCheck

__all__ = ["TextClassifier", "Verdict", "load_classifier"]


def load_classifier(settings: dict[str, Any], device: torch.device | str) -> TextClassifier:
    """The classifier of a suite's settings, on `device`; the offline one always runs on the CPU.

    {"kind": "hub", "id", "revision", "label"}, {"kind": "folder", "path", "label"} or
    {"kind": "profanity_check"}. `label` names the class whose probability is the score.
    """
    kind = settings["kind"]
    if kind in ("hub", "folder"):
        return load_hub_classifier(settings, device)
    if kind == "profanity_check":
        return ProfanityCheck()
    raise UserError(f"classifier kind must be 'hub', 'folder' or 'profanity_check', found {kind!r}")
