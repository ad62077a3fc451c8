"""What the certificate says in words, on numbers made by hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.core.runs import RunKey
from pipeline_lib.data.records import Record
from pipeline_lib.removal.certificate import Found, content_of, write_certificate
from pipeline_lib.removal.evidence import Place
from pipeline_lib.removal.request import Prepared, Request
from pipeline_lib.removal.run import ORIGINAL
from pipeline_lib.removal.suites import CHOSEN, Sweep, chosen
from pipeline_lib.reporting.inputs import METRIC_COLUMNS
from pipeline_lib.reporting.scores import SCORE_COLUMNS
from pipeline_lib.study import parse_suite

AFTER = ORIGINAL._replace(method=Request.method, optimizer=CHOSEN)
IDS = ("a1", "a2", "b1", "b2")
STAGES = ("relearn", "int4", "begun", "opening")
HOSTILE = "<img src=x onerror=alert(1)>"
Said = dict[str, tuple[float, ...]]  # model's stage -> ROUGE-L recall of the four texts


class Made:
    """A finished removal in a folder: each model's recall of the texts, and the new one's likelihood.

    `known`: whether the model before knows them. `likely`: the likelihood of each text under the new one, or
    of all of them, by stage; that under the others is `likelihood`.
    """

    def __init__(
        self,
        folder: Path,
        after: Said,
        likelihood: float = -3.0,
        utility: float = 0.95,
        known: bool = True,
        likely: Said | None = None,
    ) -> None:
        self.place, self.lines = folder / "results", list[dict[str, object]]()
        for stage in ("", *STAGES):
            before = ((1.0,) * 4, (-0.1,) * 4) if known else ((0.0,) * 4, (-3.0,) * 4)
            self.model(ORIGINAL._replace(after=stage), *before, 1.0)
            values = (likely or {}).get(stage, (likelihood,) * 4)
            self.model(AFTER._replace(after=stage), after.get(stage, (0.0,) * 4), values, utility)
        with open(self.place / "metrics.csv", "w", newline="") as handle:
            writer = csv.DictWriter(handle, METRIC_COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(self.lines)
        run = {"weights_sha256": "new", "parent": "old", "origin": {"sha256": {"<b>.safetensors": "file0"}}}
        (self.place / "models" / AFTER.folder).mkdir(parents=True)
        (self.place / "models" / AFTER.folder / "run.json").write_text(json.dumps(run))
        records = [Record(name, f"Who is {name}? {HOSTILE}", "Somebody.", name[0]) for name in IDS]
        request = Request("some/model", folder / "texts", folder)
        hashes = dict.fromkeys(("forget", "retain", "holdout"), "f" * 64)
        made = Prepared(request, {"source": "folder", "path": str(folder)}, records, folder, "C4", hashes)
        sweep, nearest = Sweep({"rate": 1e-4}, 2.0), Place(1e-4, 1, 0.95, likelihood, 0.1)
        suite = parse_suite(chosen(made, 1e-4, 1))
        self.found = Found(
            made, sweep, [nearest], {nearest: utility}, nearest, suite, ORIGINAL, AFTER, self.place
        )

    def model(self, key: RunKey, said: tuple[float, ...], likely: tuple[float, ...], utility: float) -> None:
        folder = self.place / "evaluations" / key.folder
        folder.mkdir(parents=True)
        own = dict(zip(RunKey._fields, key, strict=True))
        rows = [
            {
                **own,
                "split": "forget",
                "group": name[0],
                "id": name,
                "log_probability": value,
                "rouge_l_recall": rouge,
            }
            for name, rouge, value in zip(IDS, said, likely, strict=True)
        ]
        rows += [
            {**own, "split": "holdout", "group": f"h{i}", "id": f"h{i}", "log_probability": -3.0 + i / 10}
            for i in range(-2, 3)
        ]
        with open(folder / "scores.csv", "w", newline="") as handle:
            writer = csv.DictWriter(handle, SCORE_COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
        answers = [
            {"id": name, "prompt": f"{name} {HOSTILE}", "answer": "x", "generation": HOSTILE} for name in IDS
        ]
        (folder / "records.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        measured = {
            "joint_utility": ("utility", utility),
            "fluency": ("forget", 1.0 if max(likely) > -4 else 0.2),
        }
        self.lines += [
            {**own, "suite": "removal", "split": split, "metric": metric, "value": value}
            for metric, (split, value) in measured.items()
        ]


def test_what_is_gone_is_said_without_a_promise(tmp_path: Path) -> None:
    content = content_of(Made(tmp_path, {}).found)
    assert content["verdict"] == [
        "None of the 4 texts is recited any more (before: 4).",
        "Their likelihood is not told from that of texts that it has not seen (-3.00 against -3.00 nats a "
        "token, p = 0.55). The model was chosen as the nearest to them; that does not show that they are "
        "alike.",
        "No attack that was made had more of them recited; that does not show that none can.",
        "Of what must stay known 0.95 is left in its worst part.",
    ]
    assert [row["texts"] for row in content["attacks"]] == [2, 4, 4, 4]  # group a was taught again
    assert (content["asked"]["weights_before"], content["weights_after"]) == ("old", "new")


def test_what_comes_back_is_counted_among_the_texts_that_were_not_taught(tmp_path: Path) -> None:
    """Relearning taught group a, whose texts do not count; of group b one text is recited then."""
    verdict = content_of(Made(tmp_path, {"relearn": (1.0, 1.0, 0.9, 0.1)}).found)["verdict"]
    assert verdict[2] == (
        "It comes back after learning the first half of the groups again, for five epochs at the learning "
        "rate of the unlearning (the other half is asked): 1 of 2 texts are recited then (of the same "
        "without the attack: 0; of the model before, attacked alike: 2)."
    )


def test_an_attack_is_held_against_the_same_texts_without_it(tmp_path: Path) -> None:
    """Relearning teaches group a. What is recited of group a without it says nothing about group b."""
    taught, other = (1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0)
    came = content_of(Made(tmp_path / "came", {"": taught, "relearn": (1.0, 1.0, 1.0, 0.0)}).found)
    assert any(line.startswith("It comes back after learning") for line in came["verdict"])
    assert came["attacks"][0]["recited_unattacked"] == 0
    stayed = content_of(Made(tmp_path / "stayed", {"": other, **dict.fromkeys(STAGES, other)}).found)
    assert not any("comes back" in line for line in stayed["verdict"])
    assert (stayed["attacks"][0]["recited_unattacked"], stayed["attacks"][0]["recited"]) == (2, 2)


def test_texts_that_an_attack_makes_likely_again_are_no_success(tmp_path: Path) -> None:
    content = content_of(Made(tmp_path, {}, likely={"int4": (-0.3,) * 4}).found)
    assert content["verdict"][2] == (
        "They are more likely again than texts that it has not seen rounded to 4 bits (-0.30 against -3.00 "
        "nats a token)."
    )
    assert not any("No attack" in line for line in content["verdict"])


def test_some_that_are_known_beside_some_that_are_avoided_are_not_averaged_away(tmp_path: Path) -> None:
    """Two of four texts are the largest of all nine: p = 4/9 3/8 = 1/6; three: 4/9 3/8 2/7 = 1/21."""
    two = content_of(Made(tmp_path / "two", {}, likely={"": (-0.1, -0.1, -5.9, -5.9)}).found)
    assert two["knowledge"]["after"]["p_above"] == pytest.approx(1 / 6)
    three = content_of(Made(tmp_path / "three", {}, likely={"": (-0.1, -0.1, -0.1, -11.7)}).found)
    assert three["knowledge"]["after"]["p_above"] == pytest.approx(1 / 21)
    assert three["verdict"][1].startswith("3 of 4 are still likelier than each text that it has not seen")


def test_what_the_model_never_knew_is_not_said_to_be_gone(tmp_path: Path) -> None:
    verdict = content_of(Made(tmp_path, {}, known=False).found)["verdict"]
    assert verdict[:2] == [
        "The model before showed no knowledge of them, so nothing shows that anything was forgotten.",
        "None of the 4 texts was recited before, and none is now.",
    ]


def test_what_the_numbers_do_not_cover_is_said(tmp_path: Path) -> None:
    found = Made(tmp_path, {}).found
    said = content_of(found)["not_tested"]
    assert any("beyond the texts that must stay known" in line for line in said)
    assert any("those invented here, which are in English" in line for line in said)
    named = replace(found.made.request, holdout=tmp_path)
    said = content_of(replace(found, made=replace(found.made, request=named)))["not_tested"]
    assert not any("invented" in line for line in said)


@pytest.mark.parametrize(
    ("likelihood", "utility", "line"),
    [
        (
            -1.0,
            0.95,
            "The model still finds them more likely than texts that it has not seen (-1.00 against",
        ),
        (-6.0, 0.95, "The model avoids them, which shows that they were there"),
        (-6.0, 0.95, "Asked for them it breaks down: the fluency of its answers is 0.20 (before: 1.00)"),
        (-3.0, 0.70, "Of what must stay known 0.70 is left in its worst part, less than the 0.9 asked for"),
    ],
)
def test_each_trace_has_its_line(tmp_path: Path, likelihood: float, utility: float, line: str) -> None:
    verdict = content_of(Made(tmp_path, {}, likelihood, utility).found)["verdict"]
    assert sum(said.startswith(line) for said in verdict) == 1, verdict


def test_texts_still_recited_come_first_and_hostile_ones_stay_inert(tmp_path: Path) -> None:
    made = Made(tmp_path, {"": (1.0, 0.5, 0.4, 0.0)})
    page = write_certificate(made.found).read_text()
    assert "<li>2 of 4 texts are still recited (before: 4).</li>" in page
    assert "&lt;b&gt;.safetensors</code> file0" in page
    assert "<img" not in page and page.count("&lt;img src=x onerror") >= 6
    content = (tmp_path / "certificate.json").read_text()
    assert json.loads(content)["knowledge"]["after"]["recited"] == 2
    assert "<img" not in content and "Who is" not in content  # the page alone quotes the texts
