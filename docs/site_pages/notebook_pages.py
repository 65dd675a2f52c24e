"""Notebooks as pages: their text, code and outputs, as they are in the file."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from .copied_pages import LINK


def pages(folder: Path) -> dict[str, str]:
    """A page for each notebook in `folder`, which need not exist."""
    return {
        f"notebooks/{path.stem}": page(json.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.ipynb"))
    }


def page(notebook: dict[str, Any]) -> str:
    """Markdown cells with links from the root of docs/, code cells and their outputs as blocks."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(LINK.sub(_from_root, source))
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(f"```python\n{source}\n```")
            parts += [part for output in cell.get("outputs", ()) if (part := _output(output))]
    return "\n\n".join(parts) + "\n"


def _from_root(link: re.Match[str]) -> str:
    return f"](/{posixpath.normpath(posixpath.join('notebooks', link[1]))}{link[2] or ''})"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![output of the cell above](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(output.get("text") or data.get("text/plain") or ())
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
