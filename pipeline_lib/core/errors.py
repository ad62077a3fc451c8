"""The one exception whose message is written for the person at the terminal."""

from __future__ import annotations

from pipeline_lib.core.redaction import redacted, visible


class UserError(Exception):
    """Something the user can put right: the message says what was expected, what was found and what to do.

    Scripts print it without a traceback; every other exception is a defect of this project. Secrets that a
    quoted error of another library may hold are taken out, and what a quoted id, name or path could do to a
    terminal is made visible.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(redacted(message)))
