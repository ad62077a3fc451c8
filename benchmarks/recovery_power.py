"""How often `recovery_p` and `recovery_max_p` flag a model that never saw the data, and one with a residue.

    python benchmarks/recovery_power.py results/SUITE/scores.csv [--tries 1000]
    python benchmarks/recovery_power.py --each results/reference/*/scores.csv

Levels are those of the metrics (metrics/recovery.py): mean over the judging forget groups of log p(answer)
per token, in nats. As they are without any stage, by all groups and by the second half of them, which is
what judges where a relearning teaches the first; and after each stage that `retrained` and `original` both
went through (`suite.yaml` beside the scores says which groups it taught). The residue is a tenth or a quarter
of what `original` knows at the same place, put back into the further model: (1 - share) m + share m_original.

held-out    of a random order of the study's `retrained` seeds the first S are known and the next one is
            judged. The same seeds are taken apart in many orders: the tries are not independent.
simulated   seeds are drawn from a normal model that has the mean and the covariance, over places, of all of
            these seeds
exact       of one place: the power of Student's prediction for such seeds. With v = (1 - share)^2 + 1/S the
            further model's distance from the mean of the known ones is
            N(share (m_original - mu), sd^2 v), so that the metric's t is sqrt(v / (1 + 1/S)) times a
            noncentral t of S - 1 degrees of freedom and shift share (m_original - mu) / (sd sqrt(v)).
--each      instead: how many of all seeds are flagged, each held once against all others of its study
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from scipy import stats

from pipeline_lib.core.grouping import taught_groups
from pipeline_lib.core.runs import FINE_TUNED, split_stages
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.recovery import p_of_one_more
from pipeline_lib.metrics.recovery_max import Curve, left_out
from pipeline_lib.reporting.scores import read_scores
from pipeline_lib.study import load_suite

SEEDS = (2, 3, 5, 9)  # known ones; as far as there are more
SHARES = {"as it is": 0.0, "with a tenth": 0.1, "with a quarter": 0.25}  # of what `original` knows, put back
LEVEL = 0.05
FLAGGED = tuple(f"flagged {residue}" for residue in SHARES)
WHERE = ("task", "model", "after", "places", "groups", "test")
COLUMNS = ("how", *WHERE, "retrained seeds", *FLAGGED, "tries")
EACH = ("study", *WHERE, "retrained seeds", *FLAGGED)


@dataclass(frozen=True, eq=False)
class Places:
    """Levels at K places of S `retrained` seeds, (K, S), and of `original`, (K,), in nats per token."""

    task: str
    model: str
    after: str
    groups: int
    retrained: np.ndarray
    original: np.ndarray

    @property
    def test(self) -> str:
        return "recovery_p" if len(self.original) == 1 else "recovery_max_p"

    def flags(self, known: np.ndarray, further: np.ndarray) -> np.ndarray:
        """Whether the model `further` (K,) is told from the `known` ones (K, S), with each of `SHARES`."""
        return np.array(
            [
                self.p_value(known, (1 - share) * further + share * self.original) < LEVEL
                for share in SHARES.values()
            ],
            dtype=float,
        )

    def p_value(self, known: np.ndarray, model: np.ndarray) -> float:
        if len(model) == 1:
            return p_of_one_more(float(model[0]), known[0].tolist())
        maxima = left_out({self.after: Curve((None,) * len(model), model, known)})
        return p_of_one_more(float((model - known.mean(axis=1)).max()), maxima.tolist())

    def lines(self, tries: int) -> Iterator[dict[str, object]]:
        """One line a way and number of known seeds; `recovery_max_p` needs three of them."""
        least = 2 if self.test == "recovery_p" else 3
        seeds = [n for n in SEEDS if least <= n < self.retrained.shape[1]]
        for n in seeds:
            yield self._line("held-out", n, self.held_out(n, tries), tries)
        for n in seeds:
            yield self._line("simulated", n, self.simulated(n, tries), tries)
        for n in seeds if self.test == "recovery_p" else ():
            yield self._line("exact", n, self.exact(n), "")

    def held_out(self, seeds: int, tries: int) -> np.ndarray:
        generator, flagged = np.random.default_rng(0), np.zeros(len(SHARES))
        for _ in range(tries):
            order = generator.permutation(self.retrained.shape[1])
            flagged += self.flags(self.retrained[:, order[:seeds]], self.retrained[:, order[seeds]])
        return flagged / tries

    def simulated(self, seeds: int, tries: int) -> np.ndarray:
        mean = self.retrained.mean(axis=1, keepdims=True)
        factor = (self.retrained - mean) / sqrt(self.retrained.shape[1] - 1)  # its square: the covariance
        generator, flagged = np.random.default_rng(1), np.zeros(len(SHARES))
        for _ in range(tries):
            drawn = mean + factor @ generator.standard_normal((factor.shape[1], seeds + 1))
            flagged += self.flags(drawn[:, :-1], drawn[:, -1])
        return flagged / tries

    def exact(self, seeds: int) -> np.ndarray:
        mean, deviation = float(self.retrained.mean()), float(self.retrained.std(ddof=1))
        known = float(self.original[0]) - mean
        critical, flagged = stats.t.isf(LEVEL, seeds - 1), []
        for share in SHARES.values():
            spread = sqrt((1 - share) ** 2 + 1 / seeds)
            shift = share * known / (deviation * spread)
            flagged.append(float(stats.nct.sf(critical * sqrt(1 + 1 / seeds) / spread, seeds - 1, shift)))
        return np.array(flagged)

    def each(self) -> np.ndarray:
        """How many of the seeds are flagged, each held against all others."""
        seeds = range(self.retrained.shape[1])
        return sum(self.flags(np.delete(self.retrained, s, axis=1), self.retrained[:, s]) for s in seeds)

    @property
    def where(self) -> tuple[str | int, ...]:
        return (self.task, self.model, self.after, len(self.original), self.groups, self.test)

    def _line(self, how: str, seeds: int, flagged: np.ndarray, tries: int | str) -> dict[str, object]:
        values = (how, *self.where, seeds, *(f"{share:.3f}" for share in flagged), tries)
        return dict(zip(COLUMNS, values, strict=True))


def _level(questions: Questions, taught: int) -> float:
    """Mean over the groups that were not taught."""
    judges = questions.at(questions.but_first_groups(taught))
    return judges.mean_over_groups(judges.values["log_probability"])


def places_of(path: Path) -> Iterator[Places]:
    """Of every task and model: without a stage, after each stage, and after all stages together."""
    found: dict[tuple[str, str], dict[tuple[str, str], dict[int, Questions]]] = {}
    for key, splits in read_scores(path).items():
        if key.method in FINE_TUNED and not split_stages(key.after)[0]:
            by_row = found.setdefault((key.task, key.model), {})
            by_row.setdefault((key.method, key.after), {})[key.seed] = splits["forget"]
    staged = any(after for by_row in found.values() for _, after in by_row)
    suite = load_suite(path.with_name("suite.yaml")) if staged else None
    for (task, model), by_row in found.items():
        yield from _places(task, model, by_row, suite.learned_groups(task) if suite else {})


def _places(
    task: str,
    model: str,
    anchors: Mapping[tuple[str, str], Mapping[int, Questions]],
    learned: Mapping[str, float],
) -> Iterator[Places]:
    plain = anchors.get(("retrained", ""), {})
    if len(plain) < 3:
        return
    total = len(set(next(iter(plain.values())).groups))
    judged = [("", 0), ("", total // 2)]
    for method, after in anchors:
        if method == "retrained" and after and ("original", after) in anchors:
            taught = max(taught_groups(learned.get(label, 0), total) for label in after.split("/"))
            judged.append((after, taught))
    swept: list[Places] = []
    for after, taught in judged:
        retrained, original = anchors["retrained", after], anchors["original", after].values()
        if len(retrained) < len(plain):  # a seed broke in it
            continue
        levels = np.array([[_level(retrained[seed], taught) for seed in sorted(retrained)]])
        known = np.array([np.mean([_level(of, taught) for of in original])])
        swept.append(Places(task, model, after, total - taught, levels, known))
        yield swept[-1]
    if len(swept := [one for one in swept if one.after]) > 1:
        levels = np.concatenate([one.retrained for one in swept])
        known = np.concatenate([one.original for one in swept])
        yield Places(task, model, "all of them", min(one.groups for one in swept), levels, known)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path, nargs="+", help="scores.csv with several `retrained` seeds")
    parser.add_argument("--tries", type=int, default=1000, help="of each line (default: 1000)")
    parser.add_argument("--each", action="store_true", help="count each seed once against all others")
    chosen = parser.parse_args()
    if not chosen.each and len(chosen.scores) > 1:
        parser.error("several scores.csv go with --each")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(EACH if chosen.each else COLUMNS)
    for path in chosen.scores:
        for places in places_of(path):
            if chosen.each:
                counts = (int(count) for count in places.each())
                seeds = places.retrained.shape[1]
                writer.writerow([path.parent.name, *places.where, seeds, *counts])
            else:
                writer.writerows(line.values() for line in places.lines(chosen.tries))


if __name__ == "__main__":
    main()
