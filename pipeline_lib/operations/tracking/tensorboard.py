"""TensorBoard's event files, appended to as a study grows.

TensorBoard was chosen because its format is plain files that are only appended to: no server, no account and
no database while the study runs, many viewers, and the package writes them without torch or TensorFlow. An
event file is a row of records (length, checksum, protocol buffer); the first tells the version.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.operations.tracking.points import Point

VERSION = "brain.Event:2"  # of the format


def new_file(folder: Path, number: int) -> Path:
    """The name of a fresh event file of a run: those of a folder are read in the order of their names."""
    return folder / f"events.out.tfevents.{int(time.time()):010d}.{number:06d}.study"


def append(
    path: Path,
    size: int,
    points: Iterable[Point],
    settings: Mapping[str, str | float | bool] | None = None,
    ended: float | None = None,
) -> int:
    """Append the points to an event file that is whole up to `size` bytes (0: begin it); gives its new size.

    What lies behind `size` was written by a process that was killed on the way, and goes. `settings`: also
    the run's settings, for the table of runs and their parameters (the "hparams" page); `ended`: when the run
    ended, in seconds since 1970, which closes its line of that table.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "r+b" if size else "wb") as handle:
        handle.truncate(size)
        handle.seek(size)
        write = _recorder(handle)
        if not size:
            write(Event(wall_time=time.time(), file_version=VERSION))
        if settings is not None:
            for summary in _table_of_runs(path, settings, ended):
                write(Event(wall_time=ended or time.time(), step=0, summary=summary))
        for point in points:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
            write(Event(wall_time=point.time, step=point.step, summary=Summary(value=values)))
        handle.flush()
        os.fsync(handle.fileno())
        return handle.tell()


def _recorder(handle: Any) -> Any:
    from tensorboard.summary.writer.record_writer import RecordWriter

    writer = RecordWriter(handle)
    return lambda event: writer.write(event.SerializeToString())


def _table_of_runs(path: Path, settings: Mapping[str, str | float | bool], ended: float | None) -> list[Any]:
    """The summaries by which TensorBoard knows a run's settings, and that it ended."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2

    opening = summary_v2.hparams_pb(dict(settings), trial_id=path.parent.as_posix(), start_time_secs=ended)
    closing = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=1, end_time_secs=ended or 0.0)  # 1: success
    )
    value = Summary.Value(tag="_hparams_/session_end_info")
    value.metadata.plugin_data.plugin_name = "hparams"
    value.metadata.plugin_data.content = closing.SerializeToString()
    return [Summary.FromString(opening.SerializeToString()), Summary(value=[value])]
