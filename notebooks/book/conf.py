"""How Sphinx makes the book out of the README, the notebooks and the docstrings.

The repository itself is the source folder, so that a link from one file to another
holds in the book as it does in a clone. Notebooks are shown with their stored outputs,
and never run. No page loads anything from the network.
"""

import shutil
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import download_reference

HERE = Path(__file__).parent
HOUSE = HERE.parents[1]
sys.path.insert(0, str(HERE))

import reference  # noqa: E402  (beside this file)

# What is written beside this file before the build: {name of the page: Markdown}.
SOURCES = {f"source/{name}": page for name, page in reference.sources().items()}
API = {f"api/{name}": page for name, page in reference.pages().items()}
CONTENTS = {
    "The course": ["notebooks/[0-9]*"],
    "Without a kernel": ["notebooks/book/explorer"],
    "The model, in reading order": [f"notebooks/book/{name}" for name in SOURCES],
    "The full weights": ["notebooks/book/weights"],
    "For teachers": ["notebooks/book/syllabus", "notebooks/book/questions"],
    "Reference": [f"notebooks/book/{name}" for name in API],
    "Also here": ["CONTRIBUTING", "notebooks/results/*"],
}

project = "minidream"
html_title = "minidream"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "notebooks/**"]
exclude_patterns = ["**/.*", "out", "runs", "build", "dist", "minidream", "tests"]

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
nb_execution_mode = "off"
# A widget needs a kernel: its picture is shown instead, or else its text.
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None)
]
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

html_theme = "furo"
html_static_path = ["book.css"]
html_css_files = ["book.css"]
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {"top_of_page_buttons": []}


def write_pages(app, config) -> None:
    """Writes the pages that are made from the source, unless they are there already."""
    pages = {HERE / f"{name}.md": text for name, text in (SOURCES | API).items()}
    for path in HERE.glob("*/*.md"):
        if path not in pages:
            path.unlink()
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def add_contents(app, docname: str, source: list[str]) -> None:
    """Adds the contents to the README, for the sidebar, and titles to bare tables."""
    if docname.startswith("notebooks/results/"):
        source[0] = f"# All results: {Path(docname).stem}\n\n{source[0]}"
    if docname == root_doc:
        for title, pages in CONTENTS.items():
            lines = [":hidden:", ":glob:", f":caption: {title}", "", *pages]
            source[0] += "\n".join(["", "```{toctree}", *lines, "```", ""])


def link_sources(app, doctree) -> None:
    """A link to a file of the model leads to the page that shows it."""
    docname = app.env.current_document.docname
    for node in list(doctree.findall(download_reference)):
        path = Path(app.env.relfn2path(node["reftarget"], docname)[1])
        page = f"source/{path.stem}"
        if path.parent == reference.PACKAGE and page in SOURCES:
            uri = app.builder.get_relative_uri(docname, f"notebooks/book/{page}")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri))


def written_formula(block: bool):
    """Writes formulas as MathML, which browsers show without a script."""

    def write(translator, node) -> None:
        translator.body.append(tex2mathml(node.astext(), as_block=block))
        raise nodes.SkipNode

    return write, None


def add_index(app, exception: Exception | None) -> None:
    """The README is the first page under the name that servers look for, too."""
    if exception is None:
        shutil.copyfile(app.outdir / "README.html", app.outdir / "index.html")


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("config-inited", write_pages)
    app.connect("source-read", add_contents)
    app.connect("doctree-read", link_sources, priority=400)  # before files are copied
    app.connect("build-finished", add_index)
    inline, block = written_formula(False), written_formula(True)
    app.add_html_math_renderer("mathml", inline, block)
    return {"parallel_read_safe": True}
