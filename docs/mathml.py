"""Formulas as MathML, which browsers draw by themselves: pages need neither the network nor a script."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import ExtensionError


def mathml(source, display):
    """A formula; one of several lines is aligned at its &."""
    lines = r"\\" in source
    made = convert(rf"\begin{{aligned}}{source}\end{{aligned}}" if lines else source, display=display)
    if "\\" in made or "&#x26;" in made:
        raise ExtensionError(f"the formula {source!r} holds what latex2mathml does not know")
    return made


def visit_inline(self, node):
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append("".join(mathml(part, "block") for part in node.astext().split("\n\n") if part.strip()))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True}
