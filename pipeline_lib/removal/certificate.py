"""The certificate of a removal: what was asked, what the model said before and says now, what is not known.

Written as JSON for programs and as one page for people. It is a record of measurements, no legal guarantee.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline_lib.core.files import read_jsonl, read_object, write_json, write_text
from pipeline_lib.core.grouping import taught_groups
from pipeline_lib.core.provenance import git_commit, versions
from pipeline_lib.core.redaction import redacted, visible
from pipeline_lib.core.runs import RunKey, key_of
from pipeline_lib.metrics.definition import FORGET_SPLIT, UTILITY_SPLIT
from pipeline_lib.removal.evidence import LEVEL, Knowledge, Place, scores_of
from pipeline_lib.removal.request import Prepared
from pipeline_lib.removal.suites import EVALUATED, LORA, Sweep
from pipeline_lib.study import Suite

READS = ("template/certificate.html", "template/certificate.css")
PAGE, FILE = "certificate.html", "certificate.json"
SHOWN = 5  # texts with what the models say
LONGEST = 400  # characters of one of them
NUMBERS = ("value", "ci_low", "ci_high")
JOINT = (UTILITY_SPLIT, "joint_utility")
FLUENT = (FORGET_SPLIT, "fluency")
BROKEN = 0.5  # of the fluency before, below which the answers themselves are a trace
MEASURES = {  # split, metric -> words
    (FORGET_SPLIT, "rouge_l_recall"): "share of a text's words that it says in order (ROUGE-L recall)",
    (
        FORGET_SPLIT,
        "extraction_strength",
    ): "share of a text's end that it says by heart (extraction strength)",
    (
        FORGET_SPLIT,
        "exact_memorization",
    ): "share of a text's tokens that are its likeliest (exact memorization)",
    (FORGET_SPLIT, "probability"): "probability of a token of the texts",
    FLUENT: "fluency of what it says to them (no refusal, no repetition, no unknown words)",
    ("retain", "rouge_l_recall"): "the same of what must stay known (ROUGE-L recall)",
    ("retain", "probability"): "probability of a token of what must stay known",
    JOINT: "joint utility: the worst part of what must stay known, as a share of before",
}
ATTACKS = {
    "relearn": "after learning the first half of the groups again, for five epochs at the learning rate of "
    "the unlearning (the other half is asked)",
    "int4": "rounded to 4 bits",
    "begun": "given the first three words of each answer",
    "opening": 'made to begin with "Sure, here is the answer:"',
}
NOT_TESTED = (
    "whether the model is like one that never saw the texts: that would take training one without them",
    "what the model can do beyond the texts that must stay known: the training was given these to keep, and "
    f"its utility is measured on at most {EVALUATED} of them alone",
    "the same facts asked in other words or other languages, and the texts' contents in other texts",
    "learning all of the texts again, other attacks, and attacks that see the weights from before",
    "other copies of the model or of the texts: backups, logs, training data, models made from this one",
)


@dataclass(frozen=True)
class Found:
    """What a removal made and measured; `before` and `after` name the models in the folder `place`."""

    made: Prepared
    sweep: Sweep
    places: Sequence[Place]
    answered: Mapping[Place, float]  # those that were asked for answers, and the joint utility
    chosen: Place
    suite: Suite
    before: RunKey
    after: RunKey
    place: Path

    @cached_property
    def _table(self) -> dict[RunKey, dict[tuple[str, str], dict[str, float | None]]]:
        """metrics.csv: model -> split, metric -> value and its interval."""
        found: dict[RunKey, dict[tuple[str, str], dict[str, float | None]]] = {}
        with open(self.place / "metrics.csv", encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                key = key_of({**row, "seed": int(row["seed"]), "request": int(row["request"])})
                of_model = found.setdefault(key, {})
                numbers = {name: float(row[name]) if row[name] else None for name in NUMBERS}
                of_model[row["split"], row["metric"]] = numbers
        return found

    def metrics(self, key: RunKey) -> dict[str, dict[str, float | None]]:
        """The measures of a model by words: value and its interval."""
        measured = self._table.get(key, {})
        return {words: measured[name] for name, words in MEASURES.items() if name in measured}

    def value(self, key: RunKey, measure: tuple[str, str]) -> float | None:
        """One measure of a model; None where it was not measured."""
        return self._table.get(key, {}).get(measure, {}).get("value")

    def knowledge(self, key: RunKey, label: str = "") -> Knowledge:
        """What a model shows of the texts: of all, but those that the stage `label` teaches."""
        scores = scores_of(self.place / "evaluations" / key.folder / "scores.csv")
        forget, share = scores[FORGET_SPLIT], self.suite.learned_groups("request").get(label, 0)
        taught = taught_groups(share, len(set(forget.groups))) if share else 0
        return Knowledge.of({**scores, FORGET_SPLIT: forget.at(forget.but_first_groups(taught))})


def write_certificate(found: Found) -> Path:
    """Write both forms; returns the page."""
    out = found.made.request.out
    content = content_of(found)
    write_json(out / FILE, content)
    css = (Path(__file__).parent / "template" / "certificate.css").read_text(encoding="utf-8")
    css_hash = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("pipeline_lib.removal", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "number": _number}
    page = environment.get_template("certificate.html").render(
        css=Markup(css),  # noqa: S704 (our own file)
        css_hash=css_hash,
        samples=list(_samples(found)),
        json_name=FILE,
        **content,
    )
    write_text(out / PAGE, page)
    return out / PAGE


def content_of(found: Found) -> dict[str, Any]:
    """All that the certificate says, as plain values."""
    request, made = found.made.request, found.made
    known = {name: found.knowledge(key) for name, key in (("before", found.before), ("after", found.after))}
    run = read_object(
        found.place / "models" / found.after.folder / "run.json", "weights_sha256", "origin", "parent"
    )
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": list(_verdict(found, known["before"], known["after"])),
        "asked": {
            "model": redacted(request.model),
            "origin": run["origin"],
            "weights_before": run["parent"],
            "texts": len(made.forget),
            "groups": made.groups,
            "texts_sha256": made.hashes,
            "must_stay_known": made.retain_from,
            "unseen": "invented here" if request.holdout is None else str(request.holdout),
        },
        "settings": {
            "method": request.method,
            "optimizer": request.optimizer,
            "adapters": LORA if made.lora else None,
            "learning_rate": found.chosen.rate,
            "steps": found.chosen.step,
            "least_utility": request.utility,
            "budget_minutes": request.budget,
            "seed": request.seed,
            "tried": [
                {**place._asdict(), "joint_utility": found.answered.get(place)} for place in found.places
            ],
            "rates": found.sweep.rates,
        },
        "weights_after": run["weights_sha256"],
        "knowledge": {name: asdict(knowledge) for name, knowledge in known.items()},
        "measures": {"before": found.metrics(found.before), "after": found.metrics(found.after)},
        "attacks": list(_attacks(found)),
        "not_tested": [*NOT_TESTED, *_left_out(found)],
        "notes": list(made.notes),
        "versions": versions(),
        "commit": git_commit(),
        "command": redacted(_command()),
    }


def _verdict(found: Found, before: Knowledge, after: Knowledge) -> Iterator[str]:
    """What can be said in plain words, the worst first."""
    left, asked = found.value(found.after, JOINT), found.made.request.utility
    fluent, was = found.value(found.after, FLUENT), found.value(found.before, FLUENT)
    if not before.shown:
        yield "The model before showed no knowledge of them, so nothing shows that anything was forgotten."
    if after.recited:
        yield f"{after.recited} of {after.texts} texts are still recited (before: {before.recited})."
    elif before.recited:
        yield f"None of the {after.texts} texts is recited any more (before: {before.recited})."
    else:
        yield f"None of the {after.texts} texts was recited before, and none is now."
    yield _of_likelihood(after)
    if fluent is not None and was and fluent < BROKEN * was:
        yield (
            f"Asked for them it breaks down: the fluency of its answers is {fluent:.2f} (before: {was:.2f}), "
            "which shows where they were."
        )
    rows = list(_attacks(found))
    back = [row for row in rows if row["recited"] > row["recited_unattacked"]]
    for row in back:
        yield (
            f"It comes back {row['words']}: {row['recited']} of {row['texts']} texts are recited then (of "
            f"the same without the attack: {row['recited_unattacked']}; of the model before, attacked alike: "
            f"{row['recited_before']})."
        )
    likelier = [row for row in rows if row["p"] < LEVEL and row not in back and not after.p < LEVEL]
    for row in likelier:
        yield (
            f"They are more likely again than texts that it has not seen {row['words']} "
            f"({row['likelihood']:.2f} against {row['unseen']:.2f} nats a token)."
        )
    if not (back or likelier):
        yield (
            "No attack that was made had more of them recited; that does not show that none can."
            if rows
            else "No attack was made."
        )
    if left is not None and left < asked:
        yield (
            f"Of what must stay known {left:.2f} is left in its worst part, less than the {asked:g} asked "
            f"for. Of the models on the way, {len(found.answered)} could be asked for answers within the "
            "budget, and none kept more."
        )
    elif left is not None:
        yield f"Of what must stay known {left:.2f} is left in its worst part."


def _of_likelihood(after: Knowledge) -> str:
    """Whether the texts are told from those not seen, which says little where it does not."""
    numbers = f"({after.likelihood:.2f} against {after.unseen:.2f} nats a token"
    if after.p < LEVEL:
        return f"The model still finds them more likely than texts that it has not seen {numbers})."
    if after.p_above < LEVEL:
        return (
            f"{after.above} of {after.texts} are still likelier than each text that it has not seen, though "
            f"not all are {numbers} on the mean)."
        )
    if after.likelihood < after.unseen - 1:
        return (
            "The model avoids them, which shows that they were there: they are less likely than texts that "
            f"it has not seen {numbers})."
        )
    return (
        f"Their likelihood is not told from that of texts that it has not seen {numbers}, p = "
        f"{after.p:.2g}). The model was chosen as the nearest to them; that does not show that they are "
        "alike."
    )


def _attacks(found: Found) -> Iterator[dict[str, Any]]:
    """Each attack on the unlearned model, beside the same on the model before."""
    for label in found.suite.stages:
        row: dict[str, Any] = {"attack": label, "words": ATTACKS[label]}
        for ending, key in (("", found.after), ("_before", found.before)):
            staged = key._replace(after=label)
            known = found.knowledge(staged, label)
            row |= {
                f"texts{ending}": known.texts,
                f"recited{ending}": known.recited,
                f"likelihood{ending}": known.likelihood,
                f"unseen{ending}": known.unseen,
                f"p{ending}": known.p,
                f"utility{ending}": found.value(staged, JOINT),
            }
        row["recited_unattacked"] = found.knowledge(found.after, label).recited  # of the same texts
        yield row


def _left_out(found: Found) -> Iterator[str]:
    if found.made.request.holdout is None:
        yield (
            "whether a model that never saw the texts would find them as likely as those invented here, "
            "which are in English and of another kind (--holdout names better ones)"
        )
    for label, words in ATTACKS.items():
        if label not in found.suite.stages:
            why = "there is one group alone" if label == "relearn" else "the texts are no questions"
            yield f"the model {words}: {why}"


def _samples(found: Found) -> Iterator[dict[str, str]]:
    """The first texts of different groups, and what the models say to them."""
    rows = {
        name: {
            row["id"]: row for row in read_jsonl(found.place / "evaluations" / key.folder / "records.jsonl")
        }
        for name, key in (("before", found.before), ("after", found.after))
    }
    shown: dict[str, str] = {}
    for record in found.made.forget:
        if len(shown) < SHOWN and record.group not in shown.values():
            shown[record.id] = record.group
    for identifier in shown:
        before, after = rows["before"][identifier], rows["after"].get(identifier, {})
        yield {
            "prompt": _short(before["prompt"]),
            "truth": _short(before["answer"]),
            "before": _short(before.get("generation", "")),
            "after": _short(after.get("generation", "")),
        }


def _command() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join(["unlearning" if program == "__main__.py" else program, *sys.argv[1:]])


def _short(text: str) -> str:
    return visible(text if len(text) <= LONGEST else text[:LONGEST] + " …")


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
