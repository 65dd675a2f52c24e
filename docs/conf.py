"""Sphinx's settings. `make docs` builds the site into docs/_build/html; warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from site_pages import writing  # noqa: E402

from collapse_sim import __version__  # noqa: E402

project = "collapse-sim"
author = "The collapse-sim authors"
copyright = "2026, the collapse-sim authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "site_pages.sphinx_hooks"]
exclude_patterns = ["_build", "site_pages", "**/.ipynb_checkpoints"]
source_suffix = {".md": "markdown"}
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # the anchors that code hosts give to headings, so that links work in both places

smartquotes = False  # "--set" is two hyphens
default_role = "code"  # docstrings put names between single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
nitpicky = True
# Types in signatures, of other packages and of modules that have no page of their own: not links, but shown.
nitpick_ignore_regex = [(r"py:(class|obj|data|exc|meth|func|attr)", r"(?!collapse_sim\.api\.).*")]

html_theme = "furo"
html_title = f"collapse-sim {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

writing.write_all(DOCS)
