"""lm-evaluation-harness on our engine: equal to its own model and to the built-in evaluation."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks import harness
from pipeline_lib.evaluation.benchmarks.evaluate import evaluate_benchmarks
from pipeline_lib.evaluation.benchmarks.harness import harness_model, harness_results, run_harness
from pipeline_lib.evaluation.benchmarks.readers import load_documents
from pipeline_lib.evaluation.benchmarks.tasks import TASKS


def settings_of(data_folder, work_dir, tokenizer):
    return {
        "limit": None,
        "mmlu_shots": 2,
        "folder": str(data_folder),
        "max_tokens_per_batch": 4096,
        "pad_id": tokenizer.pad_token_id,
        "work_dir": work_dir,
        "fingerprint": "weights",
        "progress": False,
    }


@pytest.fixture(scope="module")
def models(tiny):
    """(ours, lm-eval's own) around the same weights, which read 256 tokens."""
    pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM

    model, tokenizer, _ = tiny
    ours = harness_model(
        model, tokenizer, max_tokens_per_batch=4096, pad_id=tokenizer.pad_token_id, progress=False
    )
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu")
    assert (ours.max_length, ours.prefix_token_id) == (theirs.max_length, theirs.prefix_token_id)
    return ours, theirs


def asked(*arguments):
    return SimpleNamespace(args=arguments, task_name="t")


def test_rows_equal_those_of_the_built_in_evaluation(tiny, data_folder, tmp_path):
    pytest.importorskip("lm_eval")
    model, tokenizer, _ = tiny
    settings = settings_of(data_folder, tmp_path, tokenizer)
    builtin = evaluate_benchmarks(model, tokenizer, list(TASKS), **settings)
    through = run_harness(model, tokenizer, list(TASKS), **settings)
    assert len(through) == len(builtin)
    for one, other in zip(through, builtin, strict=True):
        assert set(one) == set(other)
        for key, value in other.items():
            exact = isinstance(value, str | bool | int) or value is None
            assert one[key] == (value if exact else pytest.approx(value, abs=1e-4)), (other["id"], key)
    again = run_harness(model, tokenizer, list(TASKS), **settings)
    assert again == through


@pytest.mark.parametrize("name", ["arc_easy", "mmlu", "winogrande", "wikitext"])
def test_scores_equal_those_of_the_harness_own_model(models, data_folder, name):
    shots = 5 if name == "mmlu" else 0  # with 5 the questions are longer than the model reads
    documents, examples = load_documents(name, folder=str(data_folder), shots=shots)
    ours, theirs = (harness_results(model, name, documents, examples, shots) for model in models)
    assert set(ours) == {document.id for document in documents}
    for key, sample in theirs.items():
        for metric in ("acc", "acc_norm"):
            assert ours[key].get(metric) == sample.get(metric)
        for (mine,), (other,) in zip(ours[key]["resps"], sample["resps"], strict=True):
            if name == "wikitext":
                assert mine == pytest.approx(other, rel=1e-6)
            else:
                assert mine[0] == pytest.approx(other[0], abs=1e-4)
                assert mine[1] == other[1]
    if name == "mmlu":
        assert models[0].truncated > 0


def test_likelihoods_of_texts_without_context_and_with_spaces(models):
    requests = [asked("", "The cat"), asked("The cat ", "sat"), asked("The cat", " sat"), asked("", "<s>")]
    requests = requests[:3]
    ours, theirs = (model.loglikelihood(requests, disable_tqdm=True) for model in models)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert ours[1] == ours[2]


def test_generation_until_a_stop_string(models):
    long = asked("Who wrote the book about the river?", {"until": [], "max_gen_toks": 70})
    (whole,) = models[0].generate_until([long], disable_tqdm=True)
    middle = len(whole) // 2
    stop = whole[middle : middle + 2]
    requests = [
        long,
        asked(long.args[0], {"until": [stop, "never there"], "max_gen_toks": 70, "do_sample": False}),
        asked("The author", {"until": "e", "max_gen_toks": 8, "temperature": 0.0}),
    ]
    ours, theirs = (model.generate_until(requests, disable_tqdm=True) for model in models)
    assert ours == theirs
    assert ours[1] == whole[: whole.find(stop)]
    assert "e" not in ours[2]


def test_sampled_answers_are_refused(models):
    with pytest.raises(UserError, match="do_sample: false"):
        models[0].generate_until([asked("The", {"until": [], "temperature": 0.7})], disable_tqdm=True)


def test_nothing_to_score_is_an_error(models):
    with pytest.raises(UserError, match="nothing is left to score"):
        models[0].loglikelihood([asked("The cat", "")], disable_tqdm=True)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r'pip install "lm-eval>=0.4.13"'):
        harness.require_lm_eval()
