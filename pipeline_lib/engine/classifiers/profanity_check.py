"""The offline classifier: alt-profanity-check, a linear model on word counts that ships in its package.

It knows words, not meaning: see docs/toxicity.md for what it was validated on and what it cannot see.
Importing the package opens two joblib files that are part of it; joblib files are pickles, so installing it
means trusting its authors with code, as for any package. Nothing else is ever opened that way.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.classifiers.base import TextClassifier, Verdict

PACKAGE = "alt-profanity-check"


class ProfanityClassifier(TextClassifier):
    """Probability that a text is profane or offensive, by the version of the package that is installed."""

    def __init__(self) -> None:
        try:
            self._package = importlib.import_module("profanity_check")
            self.name = f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
        except ImportError as error:  # also when scikit-learn is absent, and no metadata of the package
            raise UserError(
                f"the classifier profanity_check needs the package {PACKAGE} ({error}); install it with "
                "`pip install 'unlearning-pipeline[toxicity]'`, or choose the kind hub"
            ) from error

    def classify(self, texts: Sequence[str]) -> list[Verdict]:
        scores = self._package.predict_prob(list(texts)) if texts else []
        return [Verdict(float(score), float(score), False) for score in scores]


def load(settings: object, device: object) -> ProfanityClassifier:
    """It has no settings, and runs on the CPU."""
    return ProfanityClassifier()
