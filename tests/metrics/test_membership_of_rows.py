"""Membership inference from rows: every attack, its distance from `retrained`, and clear refusals."""

from __future__ import annotations

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.membership.min_k import min_k_score
from pipeline_lib.metrics.scores import score_all
from tests.metrics.rows import make_row
from tests.metrics.scored import score_run

MANIFEST = {
    "evaluate": ["forget", "holdout"],
    "utility": [],
    "multiple_choice": [],
    "likelihood_only": ["holdout"],
    "membership": {"members": "forget", "nonmembers": "holdout"},
}


def rows_of(member_nll, other_nll):
    """One row a number; NLL per token of its two tokens, the first four times as unlikely as the second."""
    rows = []
    for split, values in (("forget", member_nll), ("holdout", other_nll)):
        for i, nll in enumerate(values):
            row = make_row(
                f"{split}{i}",
                split,
                f"{split}-{i // 2}",
                answer_nll=2 * nll,
                answer_tokens=2,
                token_nll=[1.6 * nll, 0.4 * nll],
                token_mean=[-1.0, -1.0],
                token_std=[1.0, 1.0],
                argmax_correct=[1, 1],
                grad_norm=nll,
            )
            if split == "holdout":
                del row["generation"]
            rows.append(row)
    return rows


# 12 of the 16 pairs of `trained` have the member likelier; of `retrained` 8
TRAINED = rows_of([0.1, 0.2, 0.3, 2.0], [0.5, 0.6, 0.7, 0.8])
RETRAINED = rows_of([0.5, 0.6, 0.7, 0.8], [0.65, 0.55, 0.75, 0.75])


def scored(rows, reference):
    return {row["metric"]: row for row in score_run(rows, reference, MANIFEST) if row["split"] == "forget"}


def test_every_attack_by_hand():
    found = scored(TRAINED, RETRAINED)
    for attack in ("loss", "zlib", "min_k_20", "min_k_40", "min_k_plus_plus_20", "grad_norm"):
        row = found[f"mia_{attack}_auc"]
        assert row["value"] == 0.75, attack
        assert row["ci_low"] <= 0.75 <= row["ci_high"]
        assert (row["n"], row["higher_is_better"]) == (8, None)
    # retrained minus model, members 0.4 0.4 0.4 -1.2, others 0.15 -0.05 0.05 -0.05
    assert found["mia_reference_auc"]["value"] == 0.75
    assert {name for name in declared() if name.startswith("mia_") and name.endswith("_auc")} < set(found)


def test_the_gap_and_privleak_by_hand():
    # `retrained`: member 0.5 is likelier than 4, 0.6 than 3, 0.7 than 2 (0.75 twice), 0.8 than none: 9 of 16
    found = scored(TRAINED, RETRAINED)
    assert found["mia_loss_auc_gap"]["value"] == pytest.approx(0.75 - 9 / 16)
    assert found["privleak"]["value"] == pytest.approx(100 * (0.25 - 7 / 16) / (7 / 16))
    assert found["mia_loss_auc_gap"]["higher_is_better"] is False
    # `retrained` knows as little as itself, and its own reference tells nothing
    itself = scored(RETRAINED, RETRAINED)
    assert itself["mia_reference_auc"]["value"] == 0.5
    for metric in ("mia_loss_auc_gap", "privleak"):
        ends = itself[metric]["ci_low"], itself[metric]["ci_high"]
        assert (itself[metric]["value"], ends) == (0, (None, None))  # 0 in every resample


def test_a_loss_that_rises_too_far_has_a_low_auc_and_a_positive_privleak():
    found = scored(rows_of([5.0, 6.0, 7.0, 8.0], [0.5, 0.6, 0.7, 0.8]), RETRAINED)
    assert found["mia_loss_auc"]["value"] == 0.0
    assert found["privleak"]["value"] == pytest.approx(100 * (1 - 7 / 16) / (7 / 16))


def test_without_retrained_there_is_nothing_that_compares_with_it():
    found = scored(TRAINED, None)
    assert "mia_loss_auc" in found
    assert not {"privleak", "mia_reference_auc", "mia_loss_auc_gap"} & set(found)


def test_members_and_nonmembers_are_resampled_apart():
    """Groups of the same name in both splits do not tie their resamples together."""
    rows, reference = ([row | {"group": f"g{row['id'][-1]}"} for row in of] for of in (TRAINED, RETRAINED))
    apart = scored(rows, reference)["mia_loss_auc"]
    assert apart["ci_low"] < 0.75 < apart["ci_high"]


def test_one_group_on_either_side_leaves_no_interval():
    """Half of a sampling error, that of the other side, would be none."""
    for split in ("forget", "holdout"):
        rows = [row | ({"group": "g"} if row["split"] == split else {}) for row in TRAINED]
        found = scored(rows, RETRAINED)
        for metric in ("mia_loss_auc", "mia_loss_auc_gap", "privleak"):
            assert (found[metric]["ci_low"], found[metric]["ci_high"]) == (None, None), (split, metric)


@pytest.mark.parametrize(("allowed", "caught"), [(99, None), (100, 0.75), (200, 1.0)])
def test_tpr_at_1_fpr_needs_a_hundred_non_members(allowed, caught):
    """Losses 1.00, 1.01, ...: of 100 non-members 1 % is one, of 200 two, of 99 none.

    The members' losses 0.5, 0.6 lie below all; 1.005 above one non-member, 1.015 above two.
    """
    rows = rows_of([0.5, 0.6, 1.005, 1.015], [1 + i / 100 for i in range(allowed)])
    metrics, lacking, _ = score_all(rows, None, MANIFEST)
    found = {row["metric"]: row["value"] for row in metrics if row["split"] == "forget"}
    why = [row for row in lacking if row["metric"] == "mia_loss_tpr_at_1_fpr"]
    assert found.get("mia_loss_tpr_at_1_fpr") == caught
    assert [(row["needs"], row["not_measured"]) for row in why] == (
        [("100 non-members or more", 103)] if caught is None else []
    )


def test_privleak_needs_a_retrained_model_that_errs():
    """`retrained` ranks every member above every other record: A is 0, and nothing is divided by it."""
    perfect = rows_of([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8])
    metrics, lacking, _ = score_all(TRAINED, perfect, MANIFEST)
    assert "privleak" not in {row["metric"] for row in metrics}
    assert [row["needs"] for row in lacking if row["metric"] == "privleak"] == [
        "a `retrained` model that does not tell the two sets apart without error itself"
    ]


def test_retrained_without_the_held_out_records_is_refused():
    reference = [row for row in RETRAINED if row["split"] == "forget"]
    with pytest.raises(UserError, match=r"`retrained` hold no holdout question.*evaluate it again"):
        score_run(TRAINED, reference, MANIFEST)


def test_retrained_on_other_held_out_records_is_refused():
    with pytest.raises(UserError, match=r"different holdout questions \(4 and 3; 'holdout3'"):
        score_run(TRAINED, RETRAINED[:-1], MANIFEST)


def test_retrained_without_what_an_attack_needs_is_refused():
    reference = [{k: v for k, v in row.items() if k != "grad_norm"} for row in RETRAINED]
    with pytest.raises(UserError, match=r"`retrained` lack what the attack `grad_norm` needs"):
        score_run(TRAINED, reference, MANIFEST)


def test_an_attack_needs_both_splits():
    rows = [
        {k: v for k, v in row.items() if k != "token_mean" or row["split"] == "forget"} for row in TRAINED
    ]
    with pytest.raises(UserError, match=r"only one of the splits 'forget' and 'holdout' has what the attack"):
        score_run(rows, None, MANIFEST)


def test_a_distribution_for_each_token():
    rows = [row | {"token_std": [1.0]} for row in TRAINED]
    with pytest.raises(UserError, match="not one `token_mean` and `token_std` for each token"):
        score_run(rows, None, MANIFEST)


def test_optional_attacks_are_absent_where_nothing_was_measured():
    rows = [
        {k: v for k, v in row.items() if k not in ("token_mean", "token_std", "grad_norm")} for row in TRAINED
    ]
    found = scored(rows, None)
    assert {"mia_loss_auc", "mia_zlib_auc", "mia_min_k_20_auc", "mia_min_k_40_auc"} <= set(found)
    assert not any("plus_plus" in metric or "grad_norm" in metric for metric in found)


def test_a_split_that_is_not_evaluated_is_refused():
    manifest = {**MANIFEST, "membership": {"members": "forget", "nonmembers": "unseen"}}
    with pytest.raises(UserError, match="nonmembers from split 'unseen', which is not evaluated"):
        score_run(TRAINED, None, manifest)


def test_min_k_of_rows_takes_log_probabilities():
    assert min_k_score([-1.6, -0.4], 20) == -1.6
