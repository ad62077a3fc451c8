"""TensorBoard's event files.

TensorBoard was chosen because its format is plain files that are only appended to: no server, no account and
no database while the study runs, many viewers, and the package writes them without torch or TensorFlow. An
event file is a row of records (length, checksum, protocol buffer); the first tells the version.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.operations.tracking.points import Point

VERSION = "brain.Event:2"  # of the format


def event_bytes(
    folder: Path,
    began: float,
    points: Sequence[Point],
    settings: Mapping[str, str | float | bool],
    end: Point | None,
) -> bytes:
    """An event file: the points of the curves, and where a run is over its settings and its metrics (`end`).

    The file of a run that goes on begins with the bytes of the file of what it had done so far. Times are in
    seconds since 1970. The settings are for the table of runs and their parameters (the "hparams"
    page), in which the `folder` of the file names the run.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    events = [Event(wall_time=began, file_version=VERSION)]
    events += [
        Event(
            wall_time=point.time,
            step=point.step,
            summary=Summary(
                value=[Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
            ),
        )
        for point in (*points, *([] if end is None else [end]))
    ]
    if end is not None:
        events += [
            Event(wall_time=end.time, summary=found) for found in _table_of_runs(folder, settings, end.time)
        ]
    content = io.BytesIO()
    writer = RecordWriter(content)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return content.getvalue()


def _table_of_runs(folder: Path, settings: Mapping[str, str | float | bool], ended: float) -> list[Any]:
    """The summaries by which TensorBoard knows a run's settings, and that it ended."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2

    opening = summary_v2.hparams_pb(dict(settings), trial_id=folder.as_posix(), start_time_secs=ended)
    closing = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=1, end_time_secs=ended)  # 1: success
    )
    value = Summary.Value(tag="_hparams_/session_end_info")
    value.metadata.plugin_data.plugin_name = "hparams"
    value.metadata.plugin_data.content = closing.SerializeToString()
    return [Summary.FromString(opening.SerializeToString()), Summary(value=[value])]
