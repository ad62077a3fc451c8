"""A family of methods: the settings classes of one package, found by their `kind` without any list."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import Field, ValidationError

from pipeline_lib.core.blocks import Block, Faults, suggestion
from pipeline_lib.core.blocks.messages import describe, show
from pipeline_lib.core.errors import UserError

M = TypeVar("M", bound="Method")

# A module without such a line holds no method and is not imported: it may need torch.
_DECLARES_KIND = re.compile(r"^ +kind: Literal\[", re.MULTILINE)


class Method(Block):
    """Base of everything that a suite chooses by its `kind`: settings, needs, and how it works.

    Methods import torch where they use it, so that a suite is read and planned without torch.
    """

    kind: str

    in_parts: ClassVar[str | None] = None  # why it cannot work where each process holds only a
    # part of the weights; None: it can

    def involved(self) -> tuple[Method, ...]:
        """The method and the methods that it chooses in turn; a run depends on their code."""
        return (self,)

    def modules(self) -> tuple[str, ...]:
        """The modules that define them, dotted."""
        return tuple(type(method).__module__ for method in self.involved())


class Family(Generic[M]):
    """Every class in the modules of `package` that derives from `base` and has `kind: Literal["..."]`.

    A new method is one module of the package, and nothing imports it by name. A job therefore depends on the
    code of its step and on the modules of the kinds that it uses.
    """

    def __init__(self, package: str, base: type[M]) -> None:
        self._package, self._base = package, base

    def parse(self, settings: Mapping[str, Any]) -> M:
        """The method with these settings and `kind`; raises `UserError` with all faults."""
        try:
            return self.checked(settings)
        except Faults as error:
            kind = settings.get("kind")
            raise UserError(f"kind {kind}: {error}" if kind in self.kinds() else str(error)) from None

    def checked(self, settings: Mapping[str, Any]) -> M:
        """The same, for a block that holds settings of a method; raises `Faults`."""
        kind = settings.get("kind")
        if kind not in self.kinds():
            raise Faults([("kind", f"found {show(kind)}; {suggestion(kind, self.kinds())}")])
        block = self.kinds()[kind]
        try:
            return block.model_validate(dict(settings))
        except ValidationError as error:
            raise Faults(describe(error, block, settled=("kind",))) from None

    def union(self) -> Any:
        """The type of a field that holds one of the methods."""
        return Annotated[Union[tuple(self.kinds().values())], Field(discriminator="kind")]  # noqa: UP007

    def names(self) -> Any:
        """The type of a field that holds one of the kinds alone."""
        return Literal[tuple(self.kinds())]

    @cache  # noqa: B019  (lives as long as the process)
    def kinds(self) -> dict[str, type[M]]:
        """Kind -> class, by name of the module, then in the order of definition."""
        found: dict[str, type[M]] = {}
        places = import_module(self._package).__path__
        for name in sorted(module.name for module in pkgutil.iter_modules(places)):
            dotted = f"{self._package}.{name}"
            spec = find_spec(dotted)
            source = None if spec is None else spec.loader.get_source(dotted)  # type: ignore[union-attr]
            if source is None or not _DECLARES_KIND.search(source):
                continue
            for block in vars(import_module(dotted)).values():
                if not (isinstance(block, type) and issubclass(block, self._base)):
                    continue
                kind = block.model_fields["kind"].annotation
                if block.__module__ == dotted and get_origin(kind) is Literal:
                    (label,) = get_args(kind)
                    if label in found:
                        raise UserError(
                            f"{dotted}: {label!r} is the kind of a class in {found[label].__module__} "
                            "already; choose another name"
                        )
                    found[label] = block
        return found
