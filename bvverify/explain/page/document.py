"""One HTML file: data, style and scripts put together, so that nothing has to be fetched, and a policy that forbids fetching.

The data stands in the page as JSON, with ``<`` escaped: no text of a model or a result can end the element or become markup. The
scripts write text nodes only. The policy names the one script by its hash; every other source, and every connection, is refused.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from typing import Any

SCRIPTS = ("arithmetic", "network", "dom", "charts", "number_line", "neuron", "layers", "tree", "main")
"""In the order in which they are needed; together they are one module."""

_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'"


def document(data: dict[str, Any], title: str) -> str:
    """The page for ``page_data``."""
    assets = resources.files("bvverify.explain.page")
    script = "\n".join((assets / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": html.escape(title),
        "policy": f"{_POLICY}; script-src 'sha256-{digest}'",
        "style": (assets / "page.css").read_text(encoding="utf-8"),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "script": script,
    }
    page = (assets / "page.html").read_text(encoding="utf-8")
    # One pass over the template: what is filled in is never searched for places to fill.
    pieces = page.split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:]))
