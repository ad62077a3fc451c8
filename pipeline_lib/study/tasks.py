"""Settings of a suite's tasks: one class for each folder of pipeline_lib.tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from pipeline_lib.tasks import sources

if TYPE_CHECKING:
    from pipeline_lib.tasks.base import TaskSettings
else:
    TaskSettings = Annotated[Union[tuple(sources().values())], Field(discriminator="source")]  # noqa: UP007
