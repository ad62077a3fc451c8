"""What a study could show, said before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.study.comparisons import pairs_in
from pipeline_lib.study.stages import applied
from pipeline_lib.study.suite import Suite

# Variances of the difference between two rows in the gap of a forget group, in units of that between seeds:
# of groups, and of what a seed makes of single groups. Those of all pairs of the demo's authors together, ten
# questions each; other tasks differ widely (docs/measurements/variances.csv).
GROUPS, BOTH = 0.16, 5.23


def power(suite: Suite) -> Iterator[str]:
    """What the seeds could show of the declared comparisons, before anything runs."""
    seeds, assumed = len(suite.seeds), False
    for (task, model), pairs in _families(suite).items():
        what = f"{task}, {model}: {pairs} comparison{'s' if pairs > 1 else ''} of rows"
        if seeds < 2:
            yield f"{what} with 1 seed: no test is possible."
            continue
        from pipeline_lib.reporting.paired import detectable_difference  # scipy is slow to import

        sizes = _at_steps(pairs, lambda tests: detectable_difference(1.0, seeds, tests))
        wider = _for_further_groups(suite, task, pairs)
        assumed = assumed or bool(wider)
        yield (
            f"{what} with {seeds} seeds: Student's paired t-test with Holm's adjustment shows, with a "
            f"probability of 80 %, a true difference of {sizes} standard deviations of the seeds' "
            f"differences, or more{wider}."
        )
    if assumed:
        yield (
            f"Assumed for further groups: groups vary {GROUPS:g} times as much as seeds, and a seed's single "
            f"groups {BOTH:g} times, in variance, as on 24 invented authors; other tasks differ "
            "(docs/inference.md)."
        )
    yield from sign_flips(suite)
    if "retrained" in {anchor for task in suite.tasks for anchor in suite.anchors(task)}:
        calibrated = seeds + len(suite.retrained_seeds)
        if calibrated < 3:
            yield (
                f"{calibrated} seed{'s' if calibrated > 1 else ''} of `retrained`: too few to call a "
                f"row like it. Add "
                "`retrained_seeds`, so that there are three or more."
            )


def sign_flips(suite: Suite) -> Iterator[str]:
    """Which test is made of the comparisons, and how many seeds one that assumes less would need."""
    families = _families(suite)
    if len(suite.seeds) < 2 or not families:
        return
    from pipeline_lib.reporting.paired import about_the_test

    for pairs in dict.fromkeys(families.values()):
        of = ", ".join(f"{task} of {model}" for (task, model), found in families.items() if found == pairs)
        yield f"{of}: {about_the_test(len(suite.seeds), pairs)}"


def _families(suite: Suite) -> dict[tuple[str, str], int]:
    runs = [run for run in suite.run_table() if run.seed == suite.seeds[0]]
    return pairs_in(suite.comparisons, runs, [row.key for row in applied(suite.stages, suite.rows())[0]])


def _at_steps(pairs: int, size: Callable[[int], float]) -> str:
    """What is seen at the first and the last step of Holm's procedure."""
    first, last = (f"{size(tests):.1f}" for tests in (pairs, 1))
    return first if pairs == 1 else f"{first} (first step) to {last} (last step)"


def _for_further_groups(suite: Suite, task: str, pairs: int) -> str:
    """The same where the difference shall hold for further forget groups; empty where nobody can tell."""
    groups = forget_groups(suite, task)
    if groups is None or groups < 2 or "retrained" not in suite.anchors(task):
        return ""
    from pipeline_lib.reporting.mixed_effects import Variances, detectable

    known = Variances(1.0, GROUPS, BOTH)
    sizes = _at_steps(pairs, lambda tests: detectable(len(suite.seeds), groups, tests, known))
    return f"; for further forget groups than these {groups}, {sizes}"


def forget_groups(suite: Suite, task: str) -> int | None:
    """How many groups the forget questions are of, as far as the suite alone tells."""
    size = (suite.tasks[task].size_hint() or {}).get(FORGET_SPLIT)
    if size is None or size.groups is None:
        return None
    asked = suite.evaluation_of(task).max_records.get(FORGET_SPLIT, size.records)
    return min(size.groups, asked)  # what is asked is spread over the groups
