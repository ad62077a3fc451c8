"""A sequence classifier of the hub or of a folder, in the layout of transformers.

The model's config decides which function turns logits z into probabilities, as in transformers' own pipeline:
    single label   softmax: p_i = exp(z_i) / sum_j exp(z_j). The classes exclude each other.
    multi label    sigmoid: p_i = 1 / (1 + exp(-z_i)). Several may hold; `problem_type` of the config is
                   "multi_label_classification", or there is one logit only.
A model with independent classes whose config does not say so would get a softmax, whose scores sum to 1 over
the classes. The models of MULTI_LABEL are known by name; for others set `problem_type` in config.json.

Shapes: B texts, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.classifiers import FolderClassifier, HubClassifier
from pipeline_lib.engine.classifiers.base import TextClassifier, Verdict
from pipeline_lib.models.encoder import Encoder, load_encoder
from pipeline_lib.models.encoder_settings import FolderEmbedder, HubEmbedder

# Trained with one sigmoid a class on Jigsaw's labels, whatever their config says.
MULTI_LABEL = ("toxic-bert", "unbiased-toxic-roberta", "multilingual-toxic-xlm-roberta")


class SequenceClassifier(TextClassifier):
    """Probability of one class of a sequence classifier."""

    def __init__(self, encoder: Encoder, label: str, multi_label: bool) -> None:
        classes: dict[int, str] = encoder.model.config.id2label
        found = [index for index, name in classes.items() if name == label]
        if len(found) != 1:
            raise UserError(
                f"{encoder.name}: has no class {label!r}; `label` must be one of "
                f"{', '.join(repr(name) for _, name in sorted(classes.items()))}"
            )
        self.name = f"{encoder.name}:{label}"
        self.multi_label = multi_label
        self._encoder, self._column = encoder, found[0]

    def classify(self, texts: Sequence[str]) -> list[Verdict]:
        tokens, cut = self._encoder.tokenize(texts)
        verdicts = []
        for row, truncated in zip(self._encoder.run(tokens, self._probabilities), cut, strict=True):
            if not bool(torch.isfinite(row).all()):
                raise UserError(
                    f"{self.name}: a score is not finite; its weights are broken, fetch them again"
                )
            score = float(row[self._column])
            verdicts.append(Verdict(score, float(row.max()) if self.multi_label else score, truncated))
        return verdicts

    def _probabilities(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits = self._encoder.model(input_ids=input_ids, attention_mask=mask).logits.float()  # (B, C)
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)


def load(settings: HubClassifier | FolderClassifier, device: torch.device | str) -> SequenceClassifier:
    """The model of these settings, on `device`."""
    place = (
        HubEmbedder(source="hub", id=settings.id, revision=settings.revision)
        if settings.kind == "hub"
        else FolderEmbedder(source="folder", path=settings.path)
    )
    encoder = load_encoder(place, "AutoModelForSequenceClassification", device)
    return SequenceClassifier(encoder, settings.label, _is_multi_label(encoder))


def _is_multi_label(encoder: Encoder) -> bool:
    config = encoder.model.config
    if config.problem_type == "regression":
        raise UserError(f"{encoder.name}: is a regression model; its output is no probability of a class")
    known = encoder.name.partition("@")[0].rpartition("/")[2] in MULTI_LABEL
    return known or config.problem_type == "multi_label_classification" or config.num_labels == 1
