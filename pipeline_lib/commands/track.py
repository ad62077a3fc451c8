"""Show a study in an experiment tracker."""

from __future__ import annotations

from argparse import Namespace

from pipeline_lib.commands.study import add_study


def add(commands) -> None:
    """`track`."""
    track = commands.add_parser(
        "track", help="write a study's steps, metrics and settings for TensorBoard, from its files"
    )
    add_study(track)
    track.set_defaults(run=_track)


def _track(given: Namespace) -> int:
    from pipeline_lib.core.locking import hold_lock
    from pipeline_lib.operations.status.report import find_study
    from pipeline_lib.operations.tracking.follow import FOLDER, check_tracker, track
    from pipeline_lib.study.resources import Tracking

    suite, out = find_study(given.study)
    check_tracker(suite.tracking or Tracking())
    hold_lock(out / FOLDER / ".lock")
    news = track(suite, out)
    print(f"{news} runs had something new. Look at them with: tensorboard --logdir {out / FOLDER}")
    return 0
