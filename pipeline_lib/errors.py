"""The one exception whose message is written for the person at the terminal."""


class UserError(Exception):
    """Something the user can put right: the message says what was expected, what was found and what to do.

    Scripts print it without a traceback; every other exception is a defect of this project.
    """
