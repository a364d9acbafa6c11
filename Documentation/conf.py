# SPDX-License-Identifier: GPL-2.0
"""How Sphinx makes these pages into HTML; `make docs` calls it, with warnings as errors.

As in the kernel's documentation a page is named by its file, `resync.rst`, which anybody can read and open; here that becomes a
link, and a warning where there is no such page.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

project = "enbd"
author = "The enbd authors"
extensions = ["sphinx.ext.graphviz"]
root_doc = "index"
graphviz_output_format = "svg"
html_theme = "alabaster"
html_theme_options = {"description": "A block device mirrored over NBD servers", "page_width": "70em", "body_max_width": "none"}
html_copy_source = False
html_show_copyright = False

PAGE = re.compile(r"\b([\w-]+)\.rst\b")


class PageLinks(SphinxTransform):
    """Makes `page.rst` in a text a link to that page, with its title."""

    default_priority = 400

    def apply(self):
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, (nodes.literal, nodes.literal_block, nodes.comment, nodes.reference)):
                parts = list(self.parts(text.astext()))
                if len(parts) > 1:
                    text.parent.replace(text, parts)

    def parts(self, text):
        """The text, cut where a page is named."""
        at = 0
        for match in PAGE.finditer(text):
            yield nodes.Text(text[at : match.start()])
            yield self.link(match[1])
            at = match.end()
        yield nodes.Text(text[at:])

    def link(self, page):
        """As `:doc:` does it."""
        return addnodes.pending_xref(
            "", nodes.inline("", page), refdomain="std", reftype="doc", reftarget=page, refdoc=self.env.docname,
            refexplicit=False, refwarn=True,
        )


def setup(app):
    """What Sphinx calls."""
    app.add_transform(PageLinks)
    return {"parallel_read_safe": True}
