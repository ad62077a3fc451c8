"""Every fault in turn, and a table of what became of it: python -m tests.failures [--kills 30] [--cut]."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.failures import damage, kills, mains, numbers, storage
from tests.failures.outcome import Outcome
from tests.failures.study import STEPS, Study, prepare

IN_MEMORY = Path("/dev/shm")  # where there is one: nothing waits for a disk there

Fault = tuple[str, Callable[[], Outcome]]


def faults(study: Study, count: int, seed: int, cut: bool) -> list[Fault]:
    """Name and function of each; `count` kills in all. `cut`: few of each, for the test suite."""
    stride = 40 if cut else 4
    random = [
        (
            "SIGKILL at random moments",
            partial(kills.at_random_moments, study, step, -(-count // len(STEPS)), seed),
        )
        for step in STEPS
    ]
    every = [
        ("SIGKILL before a change of a file", partial(kills.before_every_change, study, step, stride))
        for step in (STEPS[1:2] if cut else STEPS)
    ]
    sizes = 2 if cut else 6
    trained, both = "unlearning", ("unlearning", "evaluation")
    return [
        *random,
        *every,
        ("SIGKILL while replacing", partial(kills.while_a_checkpoint_replaces_another, study)),
        ("SIGKILL while writing", partial(kills.leftovers, study)),
        *[("full disk", partial(storage.full_disk, study, step, sizes)) for step in both],
        *[
            ("limit on the size of files", partial(storage.limited_files, study, step, sizes))
            for step in both
        ],
        ("read-only disk", partial(storage.read_only, study, trained)),
        ("read-only folder", partial(storage.not_ours, study, STEPS[0])),
        ("damaged checkpoint", partial(damage.damaged_checkpoint, study, trained)),
        ("damaged model", partial(damage.damaged_model, study)),
        ("damaged data", partial(damage.damaged_data, study)),
        ("damaged part", partial(damage.damaged_part, study)),
        ("NaN in a gradient", partial(numbers.not_a_number, study)),
        ("NaN in a gradient", partial(numbers.not_a_number_in_fine_tuning, study)),
        ("out of memory", partial(numbers.memory_error, study, trained)),
        *[
            ("out of memory", partial(numbers.memory_limit, study, step, (1, 8) if cut else (1, 4, 16, 64)))
            for step in both
        ],
    ]


def workflow_faults(folder: Path, count: int, seed: int) -> list[Fault]:
    """The same for the whole workflow, with snakemake; made when the first one is asked for."""
    made: list[mains.Study] = []

    def on_study(fault: Callable[..., Outcome], *more: int) -> Outcome:
        if not made:
            made.append(mains.prepare(folder))
        return fault(made[0], *more)

    return [
        ("two main processes", partial(on_study, mains.two_at_one_folder)),
        ("SIGKILL of the main process alone", partial(on_study, mains.jobs_that_outlive_their_main)),
        ("SIGKILL of everything", partial(on_study, mains.killed_at_random_moments, count, seed)),
    ]


def main() -> int:
    """Print one row a fault, as it is done; 1 if any of them ended otherwise than it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.failures", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=30, help="kills at random moments, of all steps together"
    )
    parser.add_argument("--workflow-kills", type=int, default=10, help="kills of snakemake with its jobs")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--cut", action="store_true", help="a few of each, and no snakemake")
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    asked = parser.parse_args()
    bad = 0
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="failures-", dir=place) as name:
        folder = Path(name)
        folder.chmod(0o755)  # one fault runs as another user
        study = prepare(folder / "steps")
        chosen = faults(study, asked.kills, asked.seed, asked.cut)
        chosen += [] if asked.cut else workflow_faults(folder, asked.workflow_kills, asked.seed)
        print("| fault | where | how | what became of it |\n|---|---|---|---|", flush=True)
        for fault, function in chosen:
            if asked.only not in fault:
                continue
            started = time.monotonic()
            try:
                outcome = function()
            except storage.Impossible as error:
                outcome = Outcome("-", "-", f"not tried: {error}")
            except AssertionError as error:
                bad += 1
                outcome = Outcome("-", "-", "**WRONG**, see below")
                print(f"{fault}: {error}", file=sys.stderr)
            print(f"| {fault} | {outcome.where} | {outcome.how} | {outcome.became} |", flush=True)
            print(f"{fault}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
