"""Classifiers of text behind one interface; `validation.py` says which of them may judge what.

Nothing here imports torch before a classifier is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from pipeline_lib.engine.classifiers.base import TextClassifier

# Kind -> the module of this package whose `load(settings, device)` gives the classifier.
_MODULES = {
    "hub": "hub",
    "folder": "hub",
    "profanity_check": "profanity_check",
    "rude_words": "rude_words",
}


def module_of(kind: str) -> str:
    """The dotted module of a kind of classifier, by which a job's code is known."""
    if kind not in _MODULES:
        raise UserError(f"classifier kind must be one of {', '.join(_MODULES)}, found {kind!r}")
    return f"{__name__}.{_MODULES[kind]}"


def load_classifier(settings: dict[str, Any], device: torch.device | str) -> TextClassifier:
    """The classifier of a suite's settings, on `device`; one without a neural model runs on the CPU.

    Settings: {"kind": "hub", "id", "revision", "label"}, {"kind": "folder", "path", "label"},
    {"kind": "profanity_check"} or {"kind": "rude_words"}. `label` names the class whose probability is the
    score.
    """
    return import_module(module_of(settings["kind"])).load(settings, device)
