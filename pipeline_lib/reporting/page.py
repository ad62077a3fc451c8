"""Pages that open from disk: one file, one look, no script, nothing from the network, all text escaped."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline_lib.core.redaction import visible

READS = ("template/report.css",)


def page_of(template: str, **values: Any) -> str:
    """A template of this room, filled; it also gets the style and its hash for the policy of the page."""
    css = (Path(__file__).parent / "template" / "report.css").read_text(encoding="utf-8")
    # A hash, not 'unsafe-inline': if a model's text ever got past the escaping, its styles would not apply.
    css_hash = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("pipeline_lib.reporting", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "caption": _caption}
    page = environment.get_template(template)
    return page.render(css=Markup(css), css_hash=css_hash, **values)  # noqa: S704 (our own file)


def _caption(text: str) -> Markup:
    """A caption with its `names` in bold; everything is escaped."""
    return Markup("").join(
        Markup("<b>{}</b>").format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`"))
    )
