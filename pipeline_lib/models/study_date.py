"""One date for a whole study, for chat templates that print the day: the same tokens on every day.

Templates ask for it in two ways: as text (`date_string`), or by calling `strftime_now(format)`, which is the
machine's clock in transformers. This module answers both. The time is midnight; names of months and days are
English whatever the machine's locale.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from functools import cache

from pipeline_lib.core.errors import UserError

DEFAULT = "26 Jul 2024"  # what Llama 3.2's own template prints where no date is given
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ESCAPED = "\0"  # stands for "%%" while directives are replaced


def parse_date(text: str) -> date:
    """The date in `text` ("26 Jul 2024"). Raises `UserError` for any other form."""
    found = re.fullmatch(r"(\d{1,2}) ([A-Z][a-z]{2}) (\d{4})", text)
    short = [month[:3] for month in MONTHS]
    if found and found[2] in short:
        with suppress(ValueError):  # 31 Feb
            return date(int(found[3]), short.index(found[2]) + 1, int(found[1]))
    raise UserError(f"expected a date such as {DEFAULT!r}, in English, found {text!r}")


@cache
def directives(text: str) -> tuple[tuple[str, str], ...]:
    """Replacements, in order, that turn a format of strftime into text for the day in `text`.

    With glibc's flags: `%-d` (no padding), `%_d` (spaces), `%0e` (zeros), `%^a` (capitals), and `%#d`, which
    is `%-d` on Windows.
    """
    pairs = [("%%", ESCAPED)]
    for letter, value in _values(parse_date(text)).items():
        number = value.strip().isdigit()
        bare = (value.strip().lstrip("0") or "0") if number else value
        pairs += [
            (f"%{letter}", value),
            (f"%-{letter}", bare),
            (f"%_{letter}", bare.rjust(len(value)) if number else value),
            (f"%0{letter}", value.replace(" ", "0") if number else value),
            (f"%^{letter}", value.upper()),
            (f"%#{letter}", bare if number else value.upper()),
        ]
    return (*pairs, (ESCAPED, "%"))


def _values(day: date) -> dict[str, str]:
    name, month = DAYS[day.weekday()], MONTHS[day.month - 1]
    padded, american = f"{day.day:2d}", f"{day.month:02d}/{day.day:02d}/{day.year % 100:02d}"
    year, week, weekday = day.isocalendar()
    of_year = day.timetuple().tm_yday
    return {
        **{"a": name[:3], "A": name, "b": month[:3], "h": month[:3], "B": month},
        **{"d": f"{day.day:02d}", "e": padded, "j": f"{of_year:03d}", "m": f"{day.month:02d}"},
        **{"Y": f"{day.year:04d}", "y": f"{day.year % 100:02d}", "C": f"{day.year // 100:02d}"},
        **{"G": f"{year:04d}", "g": f"{year % 100:02d}", "V": f"{week:02d}"},
        **{"u": str(weekday), "w": str(weekday % 7)},
        # weeks that begin on Sunday, and on Monday
        **{"U": f"{(of_year + 6 - weekday % 7) // 7:02d}", "W": f"{(of_year + 7 - weekday) // 7:02d}"},
        **{"H": "00", "I": "12", "k": " 0", "l": "12", "M": "00", "S": "00", "f": "000000"},
        **{"p": "AM", "P": "am", "R": "00:00", "T": "00:00:00", "X": "00:00:00", "r": "12:00:00 AM"},
        **{"s": str((day - date(1970, 1, 1)).days * 86400), "z": "", "Z": ""},
        **{"D": american, "x": american, "F": day.isoformat()},
        **{"c": f"{name[:3]} {month[:3]} {padded} 00:00:00 {day.year}", "n": "\n", "t": "\t"},
    }
