"""Pages that open from disk: one file, one look, nothing from the network, all text escaped.

A page runs the scripts that are named in its policy by their hashes, and no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline_lib.core.redaction import visible

READS = ("template/report.css",)


# What could end a script's element, or open one within it; the last two end a line in JavaScript.
_IN_SCRIPT = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def page_of(template: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """A template of this room, filled; it also gets the style, `scripts`, and their hashes for the policy."""
    css = (Path(__file__).parent / "template" / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("pipeline_lib.reporting", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "caption": _caption}
    page = environment.get_template(template)
    # Hashes, not 'unsafe-inline': a model's text that got past the escaping would neither run nor apply.
    return page.render(
        css=Markup(css),  # noqa: S704 (our own file)
        css_hash=_hash(css),
        scripts=[Markup(script) for script in scripts],  # noqa: S704 (our own files and the library)
        script_hashes=[_hash(script) for script in scripts],
        **values,
    )


def data_block(value: Any) -> Markup:
    """JSON for a script element of data, which no text in it can leave."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_IN_SCRIPT))  # noqa: S704 (nothing of HTML is left in it)


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and vega-embed as one script that asks for nothing else."""
    import vl_convert

    # Neither of these may stand in a script's element; both stand in texts of the script only, if at all.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for more
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("\r", "\n")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _caption(text: str) -> Markup:
    """A caption with its `names` in bold; everything is escaped."""
    return Markup("").join(
        Markup("<b>{}</b>").format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`"))
    )
