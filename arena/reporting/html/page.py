"""The page itself: template, style and scripts in one file, under a policy that lets it load and run nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from arena.errors import visible
from arena.reporting import table1
from arena.reporting.columns import Column
from arena.reporting.text import NORM_NAMES, PLAIN

_FOLDER = Path(__file__).parent
_SCRIPTS = ("sort.js", "curves.js", "gallery.js")


def render(**content: Any) -> bytes:
    """The page of these parts, UTF-8; whatever they name is escaped, so a name can be no markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "distance": PLAIN.distance,
        "percent": PLAIN.share,
        "text_of": partial(Column.text, style=PLAIN, intervals=True),
        "shares": PLAIN.shares,
        "ours": partial(table1.ours, style=PLAIN),
        "intervals": partial(table1.intervals, style=PLAIN),
        "papers": partial(table1.papers, style=PLAIN),
    }
    style = (_FOLDER / "style.css").read_text("ascii")
    script = "".join((_FOLDER / name).read_text("ascii") for name in _SCRIPTS)
    # Content Security Policy: no loads but images in the page itself, no script or style but these two.
    policy = f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}"
    template = environment.get_template("page.html.jinja")
    return template.render(
        **content,
        norm_names=NORM_NAMES,
        policy=Markup(policy),
        style=Markup(style),
        script=Markup(script),
        version=metadata.version("arena-robustness"),
    ).encode()


def _shown(value: Any) -> Any:
    """What the page says of a value; a text that comes from elsewhere, without what a browser would not show."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
