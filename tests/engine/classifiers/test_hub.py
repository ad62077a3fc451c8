"""Classifiers of the hub and of folders: which function makes probabilities, batches, truncation, errors."""

from __future__ import annotations

import math
import shutil

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.classifiers import Classifier, FolderClassifier, HubClassifier, load_classifier
from pipeline_lib.models import encoder, hub
from tests.engine.encoders import POSITIONS, TEXTS, logits_alone, save_bert, save_classifier

REVISION = "a1" * 20


def load(folder, label="toxic"):
    return load_classifier(FolderClassifier(kind="folder", path=str(folder), label=label), "cpu")


def by_hand(logits, column, multi_label):
    z = logits.tolist()
    if multi_label:
        return 1 / (1 + math.exp(-z[column]))
    return math.exp(z[column]) / sum(math.exp(value) for value in z)


@pytest.mark.parametrize(
    ("folder", "labels", "problem", "multi_label"),
    [
        ("single", ["neutral", "toxic"], "single_label_classification", False),
        ("unsaid", ["neutral", "toxic", "mild"], None, False),
        ("multi", ["toxic", "threat", "insult"], "multi_label_classification", True),
        ("one", ["toxic"], None, True),
        ("toxic-bert", ["toxic", "threat", "insult"], None, True),  # known by name, config or not
        ("toxic-bert", ["toxic", "threat"], "single_label_classification", True),
    ],
)
def test_scores_equal_softmax_or_sigmoid_by_hand(tmp_path, folder, labels, problem, multi_label):
    model = save_classifier(tmp_path / folder, labels, problem_type=problem)
    classifier = load(tmp_path / folder)
    assert classifier.multi_label is multi_label
    expected = [by_hand(logits_alone(model, text), labels.index("toxic"), multi_label) for text in TEXTS]
    assert classifier.score(TEXTS) == pytest.approx(expected, abs=1e-6)
    assert max(expected) - min(expected) > 0.05  # else a wrong order would pass


def test_any_label_is_the_largest_only_where_labels_do_not_exclude_each_other(tmp_path):
    labels = ["threat", "toxic", "insult"]
    several = save_classifier(tmp_path / "multi", labels, problem_type="multi_label_classification")
    for text, verdict in zip(TEXTS, load(tmp_path / "multi").classify(TEXTS), strict=True):
        largest = max(by_hand(logits_alone(several, text), i, True) for i in range(3))
        assert verdict.any_label == pytest.approx(largest, abs=1e-6)
    save_classifier(tmp_path / "single", ["neutral", "toxic"])
    for verdict in load(tmp_path / "single").classify(TEXTS):
        assert verdict.any_label == verdict.score


def test_batches_and_order_change_nothing(tmp_path, monkeypatch):
    save_classifier(tmp_path / "c", ["neutral", "toxic"])
    classifier = load(tmp_path / "c")
    together = classifier.score(TEXTS)
    assert classifier.score(TEXTS[::-1])[::-1] == pytest.approx(together, abs=1e-6)
    monkeypatch.setattr(encoder, "MAX_TOKENS_PER_BATCH", 1)
    assert classifier.score(TEXTS) == pytest.approx(together, abs=1e-6)
    assert classifier.score([]) == []


def test_a_text_that_is_too_long_is_cut_at_the_limit_and_says_so(tmp_path):
    model = save_classifier(tmp_path / "c", ["neutral", "toxic"])
    fits = "dog " * (POSITIONS - 2)
    long = fits + "cat cat cat"
    classifier = load(tmp_path / "c")
    verdicts = classifier.classify([long, fits, "cat"])
    assert [verdict.truncated for verdict in verdicts] == [True, False, False]
    assert verdicts[0].score == pytest.approx(verdicts[1].score, abs=1e-6)
    assert verdicts[0].score == pytest.approx(by_hand(logits_alone(model, long), 1, False), abs=1e-6)


def test_positions_of_roberta_begin_after_the_padding(tmp_path):
    from transformers import RobertaConfig, RobertaForSequenceClassification

    from tests.engine.encoders import WORDS, tokenizer

    sizes = {"vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = RobertaConfig(**sizes, intermediate_size=8, max_position_embeddings=12, pad_token_id=0)
    RobertaForSequenceClassification(config).save_pretrained(tmp_path / "r")
    tokenizer(limit=10**9).save_pretrained(tmp_path / "r")
    verdicts = load(tmp_path / "r", "LABEL_1").classify(["dog " * 9, "dog " * 10])  # and two control tokens
    assert [verdict.truncated for verdict in verdicts] == [False, True]


def test_unknown_label_lists_those_there_are(tmp_path):
    save_classifier(tmp_path / "c", ["neutral", "toxic"])
    with pytest.raises(UserError, match=r"no class 'Toxic'.*'neutral', 'toxic'"):
        load(tmp_path / "c", "Toxic")


def test_the_name_says_which_weights(tmp_path):
    save_classifier(tmp_path / "c", ["neutral", "toxic"])
    shutil.copytree(tmp_path / "c", tmp_path / "elsewhere" / "c")
    first = load(tmp_path / "c")
    assert first.name == load(tmp_path / "elsewhere" / "c").name
    assert first.name.startswith("c@")
    assert first.name.endswith(":toxic")
    save_classifier(tmp_path / "c", ["neutral", "toxic"], hidden_size=8)
    assert load(tmp_path / "c").name != first.name


def test_hub_classifier_is_pinned_and_a_local_copy_stands_in(tmp_path, monkeypatch):
    pinned = {"kind": "hub", "id": "unitary/toxic-bert", "revision": REVISION, "label": "toxic"}
    settings = HubClassifier(**pinned)
    save_classifier(tmp_path / "toxic-bert", ["toxic", "threat"])
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path))
    classifier = load_classifier(settings, "cpu")
    assert classifier.name == f"unitary/toxic-bert@{REVISION[:12]}:toxic"
    assert classifier.multi_label  # though its config does not say so
    monkeypatch.delenv("PIPELINE_MODELS")
    asked = []
    monkeypatch.setattr(hub, "download", lambda *what: asked.append(what[:2]) or tmp_path / "toxic-bert")
    assert load_classifier(settings, "cpu").name == classifier.name
    assert asked == [("unitary/toxic-bert", REVISION)]
    for name, wrong in (("revision", "main"), ("id", "../secrets")):
        with pytest.raises(ValidationError, match=rf"1 validation error for HubClassifier\n{name}\n"):
            HubClassifier(**{**pinned, name: wrong})


def test_what_is_no_classifier_is_refused(tmp_path):
    save_bert(tmp_path / "encoder")
    with pytest.raises(UserError, match=r"weights that AutoModelForSequenceClassification needs"):
        load(tmp_path / "encoder", "LABEL_0")
    save_classifier(tmp_path / "grade", ["LABEL_0"], problem_type="regression")
    with pytest.raises(UserError, match="regression model"):
        load(tmp_path / "grade", "LABEL_0")
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "absent")
    (tmp_path / "grade" / "model.safetensors").rename(tmp_path / "grade" / "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors"):
        load(tmp_path / "grade")
    with pytest.raises(ValidationError, match="tag 'perspective' found"):
        TypeAdapter(Classifier).validate_python({"kind": "perspective"})


def test_broken_weights_are_no_score(tmp_path):
    model = save_classifier(tmp_path / "c", ["neutral", "toxic"])
    model.classifier.bias.data[0] = math.nan
    model.save_pretrained(tmp_path / "c")
    with pytest.raises(UserError, match="not finite"):
        load(tmp_path / "c").score(["dog"])
