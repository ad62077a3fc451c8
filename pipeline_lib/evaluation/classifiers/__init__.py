"""Classifiers of text behind one interface; which of them may judge what is in `validation.py`."""

from __future__ import annotations

from typing import Any

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.classifiers.base import TextClassifier, Verdict
from pipeline_lib.evaluation.classifiers.hub import load_hub_classifier
from pipeline_lib.evaluation.classifiers.profanity_check import ProfanityCheck
from pipeline_lib.evaluation.classifiers.rude_words import RudeWords

__all__ = ["TextClassifier", "Verdict", "load_classifier"]


def load_classifier(settings: dict[str, Any], device: torch.device | str) -> TextClassifier:
    """The classifier of a suite's settings, on `device`; those without weights of a model run on the CPU.

    {"kind": "hub", "id", "revision", "label"}, {"kind": "folder", "path", "label"} or
    {"kind": "profanity_check"} or {"kind": "rude_words"}. `label` names the class whose probability is the
    score.
    """
    kind = settings["kind"]
    if kind in ("hub", "folder"):
        return load_hub_classifier(settings, device)
    if kind == "profanity_check":
        return ProfanityCheck()
    if kind == "rude_words":
        return RudeWords()
    raise UserError(
        f"classifier kind must be 'hub', 'folder', 'profanity_check' or 'rude_words', found {kind!r}"
    )
