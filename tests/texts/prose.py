"""Numbers as they stand in Markdown: how they are found, how they are written, and which need no source.

What counts as a result until it is shown to be none: a decimal, a power of ten (3e-5), a percentage, a number
with a thousands comma, `8 times`, `3 of 40`, `12 MiB`. Other integers are results only where they are
marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.paths import REPO

WORDS = [
    "none",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[-+]?\d+)?"
NUMBER = rf"(?:(?<![\w)\]])[-+−])?(?:{DIGITS})"
WORD = rf"(?i:\b(?:{'|'.join(WORDS)}))"
MARKED = re.compile(rf"(?P<number>{NUMBER}|{WORD})<!--=(?P<expression>.*?)-->", re.DOTALL)
UNIT = "GB|MB|KB|GiB|MiB|KiB|GFLOP|ms|s|seconds?|minutes?|hours?|nats"
RESULT = re.compile(
    r"(?<![\w.])(?:"
    r"\d[\d,]*\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+\b|\d{1,3}(?:,\d{3})+"
    rf"|\d+(?=\s?%|\stimes\b|\sof\s(?:the\s)?\d|-fold|\s(?:{UNIT})\b))"
)
PACKAGES = (
    "Python|torch|transformers|snakemake|lm-eval|lm-evaluation-harness|alt-profanity-check|bitsandbytes"
)
NO_RESULTS = [
    re.compile(pattern, re.DOTALL | re.MULTILINE)
    for pattern in (
        r"^(```)(?:sh|yaml|python|json)(?: title=\"[^\"\n]*\")?\n.*?^\1",
        r"\]\([^)]*\)",  # where a link leads
        r"https?://\S+",
        r"arXiv \d{4}\.\d{4,5}",
        r"\b[A-Z]\w*-\d+(?:\.\d+)?[BM]\b",  # the names of models
        r"\b(?:Llama|Gemma|Qwen|Phi|Mistral|Granite|Falcon|OLMo)[ -]?\d+(?:\.\d+)?\b",
        rf"\b(?:{PACKAGES}) \d+(?:\.\d+)+(?: (?:to|or) \d+(?:\.\d+)+)?",
        r"\b95 %(?= interval| bootstrap|\)| simultaneous)|(?<=simultaneous )95 %",  # how wide an interval is
        r"(?<=\bat )0\.05\b",  # the level of a test
        r"\b(?:TPR at 1 % FPR|1 % FPR)\b",
        r"\b(?:CC[ \w-]*|Apache[ -]|AFL )\d\.\d\b",  # licences
    )
]
CODE = re.compile(r"(`+)(?P<code>[^`].*?)\1", re.DOTALL)
OUTPUT = re.compile(r"(?:\A|(?<=\n\n))(?: {4}[^\n]*\n)+")  # indented: in docs/, what a program prints
COMMAND = re.compile(r"(?:snakemake|python|pip|make|squeue|sbatch|export) .*|[A-Za-z/.<~-]\S*", re.DOTALL)
KEY = re.compile(r"([\w.]+):(?=\s)")
KEYS = set(re.findall(r'"(\w+)": \{', (REPO / "workflow" / "schemas" / "suite.schema.json").read_text()))


def blank(text: str, start: int, end: int) -> str:
    """The same text with dots there (spaces would be an indent to Markdown); line breaks stay."""
    return text[:start] + re.sub(r"[^\n]", "·", text[start:end]) + text[end:]


def without_code(text: str) -> str:
    """Code, links, sources, versions and licences are blanked."""
    for pattern in NO_RESULTS:
        for match in pattern.finditer(text):
            text = blank(text, *match.span())
    for match in CODE.finditer(text):
        if is_code(match["code"]):
            text = blank(text, *match.span())
    return text


def is_code(code: str) -> bool:
    """Whether what stands in backticks is a command, a name or settings of a suite; `KS D 0.42` is not."""
    keys = KEY.findall(code)
    if keys:
        return all(key.rpartition(".")[2] in KEYS for key in keys)
    return COMMAND.fullmatch(code) is not None


def results(text: str) -> Iterator[re.Match[str]]:
    """Numbers that need a source, in a text that has been through `without_code`."""
    return RESULT.finditer(text)


def written_like(printed: str, value: float) -> str:
    """The value with as many digits, the same signs and separators as the number that stands there."""
    if printed.lower() in WORDS:
        whole = round(value)
        word = WORDS[whole] if 0 <= whole < len(WORDS) and abs(value - whole) < 1e-9 else f"{value:g}"
        return word.capitalize() if printed[0].isupper() else word
    sign, digits = (printed[0], printed[1:]) if printed[0] in "+-−" else ("", printed)
    mantissa, _, exponent = digits.partition("e")
    places = len(mantissa.partition(".")[2])
    if exponent:
        text, _, power = f"{abs(value):.{places}e}".partition("e")
        text += f"e{int(power)}"
    else:
        grouped = "," if "," in digits or float(digits) < 1000 else ""
        text = f"{abs(value):{grouped}.{places}f}"
    if float(text.replace(",", "")) == 0:
        return text
    if value < 0:
        return ("−" if sign == "−" else "-") + text
    return ("+" if sign == "+" else "") + text
