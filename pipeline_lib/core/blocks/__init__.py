"""The strict base of every block of a suite, and the types of its fields."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticKnownError

# pattern -> what it asks for, in words
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": (
        "a name becomes a folder: up to 64 letters (a-z), digits, `_`, `-` and `.`, "
        "beginning with a letter or digit"
    ),
    r"^[0-9a-f]{40}$": "expected the 40 digits and letters a-f of a commit; a branch or tag can change",
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$": "expected a hub id, such as owner/name",
}
_NAME, _REVISION, _HUB_ID = PATTERNS


def _not_boolean(value: Any) -> Any:
    """YAML reads yes and no as booleans, and Python counts them as 1 and 0."""
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


# Real numbers may come as text: YAML reads 5e-6, without a point, as a string.
_REAL = BeforeValidator(_not_boolean)


def _not_periodic(name: str) -> str:
    """Snakemake takes a name that repeats itself 20 times for a rule that runs in circles."""
    if re.search(r"(.+?)\1{19}$", name):
        raise PydanticCustomError("periodic", "must not end in 20 repetitions of the same letters")
    return name


# Windows and the shares it serves keep these for devices, with any ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def _everywhere(name: str) -> str:
    """Accept only names that a folder can have on every system that holds results."""
    if _DEVICES.fullmatch(name):
        raise PydanticCustomError("device", "names a device on Windows and its shares; choose another")
    if name.endswith("."):
        raise PydanticCustomError("dot", "must not end in a dot, which Windows and its shares drop")
    return name


Name = Annotated[
    str, StringConstraints(pattern=_NAME), AfterValidator(_not_periodic), AfterValidator(_everywhere)
]
Revision = Annotated[str, StringConstraints(pattern=_REVISION)]
HubId = Annotated[str, StringConstraints(pattern=_HUB_ID, max_length=96)]
Text = Annotated[str, Field(min_length=1)]


def usable_path(path: str) -> str:
    """Refuse paths that no file can have; the system's own error would come late and say little."""
    if "\0" in path:
        raise PydanticCustomError("path", "a path holds no character 0")
    if len(path) > 4000 or any(len(part.encode(errors="replace")) > 255 for part in path.split("/")):
        raise PydanticCustomError("path", "no file has so long a name; expected a path")
    return path


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith(("/", "~")) or ".." in parts or {"\\", "$"} & set(path):
        raise PydanticCustomError("inside", "expected the name of a file inside the folder, without `..`")
    return path


@dataclass(frozen=True)
class OnThisMachine:
    """Marks a path of a suite at which something must exist, unless the value is `unless`."""

    unless: str | None = None


@dataclass(frozen=True)
class InsideFolder:
    """Marks the name of a file in the folder that the same block names; no other file of it is read."""


_Path = Annotated[Text, AfterValidator(usable_path)]
PathText = Annotated[_Path, OnThisMachine()]
InsidePath = Annotated[_Path, AfterValidator(_inside), InsideFolder()]

# Beyond any sensible value; without a bound, the products and sums of an estimate would overflow.
_LARGEST = 1e30
Positive = Annotated[float, Field(gt=0, le=_LARGEST, allow_inf_nan=False), _REAL]
NonNegative = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False), _REAL]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), _REAL]
Count = Annotated[int, Field(strict=True, gt=0, lt=2**31)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Switch = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), _REAL]
UpToOne = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _REAL]

# A number, or `auto`. The tags make a fault one finding instead of one for each of the two.
_AUTO = Discriminator(lambda value: "auto" if value == "auto" else "number")
PositiveOrAuto = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[Literal["auto"], Tag("auto")], _AUTO
]
CountOrAuto = Annotated[Annotated[Count, Tag("number")] | Annotated[Literal["auto"], Tag("auto")], _AUTO]
_ALL = Discriminator(lambda value: "all" if value == "all" else "number")
CountOrAll = Annotated[Annotated[Count, Tag("number")] | Annotated[Literal["all"], Tag("all")], _ALL]


def suggestion(found: Any, allowed: Iterable[str]) -> str:
    """The allowed names, after `did you mean ...?` where one of them is near."""
    names = sorted(allowed)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.5) if isinstance(found, str) else []
    listed = ", ".join(names) or "none"
    return f"did you mean {near[0]!r}? Allowed: {listed}" if near else f"allowed: {listed}"


Fault = tuple[str, str]  # path of the field below the block, message


class Faults(ValueError):
    """Faults of fields that are each valid alone, such as a forget set larger than the whole."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.faults))


class Block(BaseModel):
    """A part of a suite. Unknown keys are refused; a block that is left empty has its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, value: Any) -> Any:
        """`evaluation:` with every line below it commented out is `evaluation: null` to YAML."""
        if not isinstance(value, dict):
            return value
        blocks = {k for k, field in cls.model_fields.items() if isinstance(field.default, Block | dict)}
        return {k: v for k, v in value.items() if not (v is None and k in blocks)}

    def reads(self) -> dict[str, Path] | None:
        """Files on this machine that this block makes its job read, by a name for each.

        None where its fields tell which: those marked `OnThisMachine`, and within them those marked
        `InsideFolder`.
        """
        return None


def blocks_in(block: Block) -> Iterator[tuple[str, Block]]:
    """(field, block) of every block that this one holds itself or in a list, as `text.0`."""
    for name, value in block:
        for place, inner in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(inner, Block):
                yield name if place is None else f"{name}.{place}", inner


def plain(annotation: Any) -> Any:
    """A field's type without its constraints and without `| None`."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [member for member in get_args(annotation) if member is not type(None)]
        if len(rest) == 1:
            return plain(rest[0])
    return annotation


def choices(annotation: Any) -> dict[str, type[Block]]:
    """The blocks that a field allows, by the value of `kind` or `source` that chooses among them."""
    annotation = plain(annotation)
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    return {
        tag(member): member for member in members if isinstance(member, type) and issubclass(member, Block)
    }


def marks_of(field: FieldInfo) -> Iterator[Any]:
    """The annotations of a field's type, also inside `| None`."""

    def within(found: Iterable[Any]) -> Iterator[Any]:
        for item in found:
            yield item
            yield from within(get_args(item))

    return within([*field.metadata, field.annotation])


def takes_auto(annotation: Any) -> bool:
    """Whether a field's type is a number or `auto`."""
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    return Literal["auto"] in map(plain, members)


def tag(block: type[Block]) -> str:
    """The one value that `kind` or `source` of a block can have."""
    key = "kind" if "kind" in block.model_fields else "source"
    literal = block.model_fields[key].annotation
    assert get_origin(literal) is Literal
    return get_args(literal)[0]
