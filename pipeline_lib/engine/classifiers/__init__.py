"""Classifiers of text behind one interface: their settings, each with the module that loads it.

`validation.py` says which of them may judge what. Nothing here imports torch before a classifier is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Block, HubId, PathText, Revision, Text

if TYPE_CHECKING:
    import torch

    from pipeline_lib.engine.classifiers.base import TextClassifier


class HubClassifier(Block):
    """A text classifier of the hub at a pinned revision; `label` is the class whose probability counts."""

    kind: Literal["hub"]
    id: HubId
    revision: Revision
    label: Text

    module: ClassVar = "pipeline_lib.engine.classifiers.hub"


class FolderClassifier(Block):
    """A text classifier in a local folder. `$VARIABLES` in the path are expanded."""

    kind: Literal["folder"]
    path: PathText
    label: Text

    module: ClassVar = "pipeline_lib.engine.classifiers.hub"


class ProfanityCheck(Block):
    """The classifier of the package alt-profanity-check, which ships its own weights."""

    kind: Literal["profanity_check"]

    module: ClassVar = "pipeline_lib.engine.classifiers.profanity_check"


class RudeWords(Block):
    """A list of words that fits only the generated language of the task `manners`."""

    kind: Literal["rude_words"]

    module: ClassVar = "pipeline_lib.engine.classifiers.rude_words"


Classifier = Annotated[
    HubClassifier | FolderClassifier | ProfanityCheck | RudeWords, Field(discriminator="kind")
]


def load_classifier(settings: Classifier, device: torch.device | str) -> TextClassifier:
    """The classifier of these settings, on `device`; one without a neural model runs on the CPU."""
    return import_module(settings.module).load(settings, device)
