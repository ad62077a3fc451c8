"""The one exception whose message is written for the person at the terminal."""

from __future__ import annotations

from pipeline_lib.core.redaction import redacted, visible


class UserError(Exception):
    """Something the user can put right: the message says what was expected, what was found and what to do.

    Scripts print it without a traceback; every other exception is a defect of this project. The message hides
    secrets that a quoted error of another library may hold, and shows control characters of a quoted id, name
    or path instead of sending them to the terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(redacted(message)))
