"""The day that templates print: every directive, in English, whatever the clock and the locale."""

from __future__ import annotations

from datetime import datetime

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.study_date import directives, parse_date


def formatted(day: str, text: str) -> str:
    for directive, value in directives(day):
        text = text.replace(directive, value)
    return text


@pytest.mark.parametrize("day", ["26 Jul 2024", "10 Apr 2025", "1 Jan 2023", "31 Dec 2024", "3 Mar 1999"])
@pytest.mark.parametrize("letter", list("aAbBcCdDeFgGhHIjklmMpPrRsStTuUVwWxXyYzZfn"))
def test_directives_are_pythons_own_at_midnight(day: str, letter: str) -> None:
    """Python's own with the C locale, in which the tests run."""
    parsed = parse_date(day)
    when = datetime(parsed.year, parsed.month, parsed.day)
    if letter == "s":  # local time there, UTC here
        assert formatted(day, "%s") == str(int((when - datetime(1970, 1, 1)).total_seconds()))
    elif letter == "P":
        assert formatted(day, "%P") == "am"
    else:
        assert formatted(day, f"<%{letter}>") == when.strftime(f"<%{letter}>")


def test_flags_and_percent_signs() -> None:
    assert formatted("3 Mar 1999", "%-d %-m %_d|%_m|%0e|%^b|%#d|%#a") == "3 3  3| 3|03|MAR|3|WED"
    assert formatted("3 Mar 1999", "100 %% of %%d, %Y%%") == "100 % of %d, 1999%"


@pytest.mark.parametrize(
    "text", ["", "2024-07-26", "26 July 2024", "26 jul 2024", "31 Feb 2024", "0 Jan 2024"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a date such as '26 Jul 2024', in English"):
        parse_date(text)
