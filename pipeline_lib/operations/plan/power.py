"""What a study could show, said before it runs."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline_lib.study.comparisons import pairs_in
from pipeline_lib.study.suite import Suite


def power(suite: Suite) -> Iterator[str]:
    """What the seeds could show of the declared comparisons, before anything runs."""
    seeds = len(suite.seeds)
    runs = [run for run in suite.run_table() if run.seed == suite.seeds[0]]
    for (task, model), pairs in pairs_in(suite.comparisons, runs).items():
        what = f"{task}, {model}: {pairs} comparison{'s' if pairs > 1 else ''} of rows"
        if seeds < 2:
            yield f"{what} with 1 seed: no test is possible."
            continue
        from pipeline_lib.reporting.paired import detectable_difference  # scipy is slow to import

        size = detectable_difference(1.0, seeds, pairs)
        yield (
            f"{what} with {seeds} seeds: Student's paired t-test with Holm's adjustment shows, with a "
            f"probability of "
            f"80 %, a true difference of {size:.1f} standard deviations of the seeds' differences, or more."
        )
    if "retrained" in {anchor for task in suite.tasks for anchor in suite.anchors(task)}:
        calibrated = seeds + len(suite.retrained_seeds)
        if calibrated < 3:
            yield (
                f"{calibrated} seed{'s' if calibrated > 1 else ''} of `retrained`: too few to call a "
                f"row like it. Add "
                "`retrained_seeds`, so that there are three or more."
            )
