"""What mkdocs.yml has MkDocs do to our Markdown, which GitHub shows as it is.

Pages outside docs/ become pages of the site (README.md is its home). A link to another file of the repository
leads to the repository: to its address where pyproject.toml or the CI names one, else to the file in this
checkout, beside which site/ lies. The marks of numbers (CONTRIBUTING.md) are taken out. The pages of the
suite's keys and of the library are made from the schema and for mkdocstrings.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from docs_pages import library_pages, suite_keys

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (".png", ".svg")
REPOSITORY = "repository:"  # before the path of a file of the repository, until the page is written
WARN = logging.getLogger("mkdocs.hooks.repository").warning  # a warning stops a strict build

CODE = re.compile(
    r"^(?P<fence>```+|~~~+)[^\n]*\n.*?^(?P=fence)[ \t]*$|(?P<ticks>`+)[^`].*?(?P=ticks)", re.M | re.S
)
COMMENT = re.compile(r"^[ \t]*<!--.*?-->[ \t]*\n|<!--.*?-->", re.M | re.S)
LINK = re.compile(r"(?P<before>\]\()(?P<target>[^()\s]+)(?=\))")
IMAGE = re.compile(r"!\[[^\]]*\]\((?P<target>[^()\s]+)\)")
MANY = re.compile(r"^\|(?:[ :-]+\|){9,}$", re.MULTILINE)  # the rule of a table of nine columns or more
ITEM = re.compile(r"(?:[-*] |1\. )\S")


def on_config(config: Any) -> Any:
    """Headings have the anchors that GitHub gives them."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/, and the pictures that they show."""
    from mkdocs.structure.files import File

    pages = {uri: (ROOT / path).read_text(encoding="utf-8") for uri, path in outside().items()}
    pictures = {
        place
        for uri, text in pages.items()
        for found in IMAGE.finditer(text)
        if (place := placed(source(uri), found["target"])) and not place.startswith("docs/")
    }
    for uri, text in {**pages, **suite_keys(ROOT), **library_pages(ROOT)}.items():
        files.append(File.generated(config, uri, content=text))
    for place in sorted(pictures):
        files.append(File.generated(config, f"pictures/{place}", abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Our Markdown as Python-Markdown reads it. Wide tables get the room of the page's contents."""
    if MANY.search(markdown):
        page.meta["hide"] = ["toc"]
    return adapted(markdown, page.file.src_uri)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Links to files of the repository, now that it is known where the page lies."""
    base = address() or relpath(".", dirname(join("site", page.file.dest_uri)))
    return output.replace(f'href="{REPOSITORY}', f'href="{base}/')


def outside() -> dict[str, str]:
    """Page of the site -> the file outside docs/ that it shows."""
    runs = sorted((ROOT / "results" / "reference").glob("*/README.md"))
    return {
        "index.md": "README.md",
        "suites.md": "config/README.md",
        "contributing.md": "CONTRIBUTING.md",
        "changes.md": "CHANGELOG.md",
        **{f"runs/{path.parent.name}.md": path.relative_to(ROOT).as_posix() for path in runs},
    }


def source(uri: str) -> str:
    """The file of the repository that a page is made from."""
    return outside().get(uri, f"docs/{uri}")


def placed(path: str, target: str) -> str:
    """What a link in the file `path` means, from the repository's root; empty for an address or an anchor."""
    if target.startswith("#") or re.match(r"[a-z]+:", target):
        return ""
    return normpath(join(dirname(path), target.partition("#")[0]))


def address() -> str:
    """Where the repository's files are read on the web; empty where nothing names it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    named = os.environ.get("GITHUB_REPOSITORY", "")
    server = os.environ.get("GITHUB_SERVER_URL", "")
    known = urls.get("Repository") or (f"{server}/{named}" if named and server else "")
    return f"{known}/blob/main" if known else ""


def adapted(markdown: str, uri: str) -> str:
    """Without comments; each list a block of its own; each link to a page, or to the repository."""
    text = outside_code(markdown, lambda part: COMMENT.sub("", part))
    text = outside_code(text, lambda part: LINK.sub(lambda found: _led(found, uri, part), part))
    return lists_apart(text)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with what stands in no fence and in no backticks changed."""
    parts, end = [], 0
    for found in CODE.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def _led(found: re.Match[str], uri: str, part: str) -> str:
    """One link, from the page `uri`."""
    target = found["target"]
    place = placed(source(uri), target)
    if not place:
        return found[0]
    anchor = target[len(target.partition("#")[0]) :]
    if not (ROOT / place).exists():
        WARN("%s: the link to %s leads nowhere", source(uri), target)
    shown = {path: page for page, path in outside().items()}
    shown |= {dirname(path): page for path, page in shown.items() if dirname(path)}
    image = part[: found.start()].rpartition("[")[0].endswith("!")
    if place in shown:
        page = shown[place]
    elif place.startswith("docs/") and (ROOT / place).is_file():
        page = place.removeprefix("docs/")
    elif image and place.endswith(PICTURES):
        page = f"pictures/{place}"
    else:
        return f"{found['before']}{REPOSITORY}{place}{anchor}"
    return f"{found['before']}{relpath(page, dirname(uri) or '.')}{anchor}"


def lists_apart(text: str) -> str:
    """A blank line before a list that follows a paragraph; GitHub needs none, Python-Markdown does."""
    lines: list[str] = []
    fenced = listed = False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            item = ITEM.match(line) is not None
            if item and not listed and lines and lines[-1].strip():
                lines.append("")
            if item:
                listed = True
            elif not line.strip():
                pass
            elif lines and not lines[-1].strip() and not line.startswith(" "):
                listed = False
        lines.append(line)
    return "\n".join(lines)
