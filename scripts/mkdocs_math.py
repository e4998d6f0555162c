r"""A hook of MkDocs: equations become MathML as the site is built, so that pages load no scripts.

`pymdownx.arithmatex` finds the equations, `$$...$$` and `\(...\)`; browsers draw MathML.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_EQUATION = re.compile(
    r'<(?P<tag>div|span) class="arithmatex">(?:\\\[|\\\()(?P<tex>.*?)(?:\\\]|\\\))</(?P=tag)>', re.S
)


def on_page_content(content: str, **_: Any) -> str:
    """The page with its equations drawn.

    Raises:
        ValueError: If a command is not known, which would stand there as it is.
    """
    return _EQUATION.sub(_drawn, content)


def _drawn(found: re.Match[str]) -> str:
    tex = html.unescape(found["tex"])
    display = "block" if found["tag"] == "div" else "inline"
    drawn = convert(tex, display=display)
    if "\\" in drawn or "<mi>&</mi>" in drawn:
        raise ValueError(f"latex2mathml does not know all of {tex!r}")
    return f'<{found["tag"]} class="equation">{drawn}</{found["tag"]}>'
