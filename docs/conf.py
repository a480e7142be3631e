"""The documentation: guides in Markdown, and a reference made from the docstrings of all public names.

sphinx-build -W --keep-going -n docs docs/_build
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from reference import pages  # noqa: E402

import fastopt  # noqa: E402

project = "fastopt"
author = "the fastopt developers"
version = release = fastopt.__version__
extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser", "mathml"]
html_math_renderer = "mathml"
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["width.css"]
html_title = f"fastopt {release}"

default_role = "py:obj"  # `sigmoid` in a docstring is a link; with -n, one that leads nowhere is an error
nitpick_ignore_regex = [
    ("py:obj", r"numpy\..*"),  # other libraries' inventories would have to be fetched
    ("py:obj", r"(\w+\.)?[a-z_]+"),  # an attribute, which has no entry of its own
    ("py:class", r"fastopt\..*"),  # a base that is not public
]
autodoc_typehints = "none"  # the docstrings say the types
autodoc_inherit_docstrings = False  # what a class takes over is documented where it comes from
autodoc_preserve_defaults = True  # "dtype=np.float32", as it is written
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3


def without_factories(app, what, name, value, options, signature, returns):
    """A dataclass's lists and dicts are new ones: "loss=...", not "loss=<factory>"."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app):
    app.connect("autodoc-process-signature", without_factories)
    folder = DOCS / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
