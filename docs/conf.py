"""The site of the documentation: `make docs` builds it strictly into build/docs, without a network.

Two directives write at build time what stands elsewhere: `options` the comments of conf/, `help` what commands print.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import corridor_exp  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "corridor_exp"
version = release = corridor_exp.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
nb_execution_mode = "off"  # tests/test_notebooks.py runs them
myst_heading_anchors = 3
highlight_language = "text"
default_role = "literal"  # `word` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
html_theme = "furo"
html_title = f"corridor_exp {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
project_copyright = "The corridor_exp developers, Apache-2.0"


class Options(SphinxDirective):
    """`options GROUP`: what each file of conf/GROUP says, as a section with its comment and a table of its keys."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        place = ROOT / "conf" / self.arguments[0]
        files = sorted(place.glob("*.yaml")) if place.is_dir() else [place]
        for file in files:
            self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(map(section, files)), allow_section_headings=True)


class Help(SphinxDirective):
    """`help COMMAND`: what `COMMAND --help` prints."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, _ = PROJECT["scripts"][self.arguments[0]].partition(":")
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [nodes.literal_block(done.stdout, done.stdout, language="text")]


def section(file: Path) -> str:
    """One file of conf/ as Markdown."""
    lines = file.read_text().splitlines()
    about = [line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]]
    rows = keys(lines[len(about) :])
    table = ["| key and default | |", "| --- | --- |", *(f"| `{key}: {value}` | {said} |" for key, value, said in rows)]
    return "\n".join([f"### {file.stem}", "", escaped(" ".join(about)), "", *(table if rows else []), ""])


def keys(lines: list[str]) -> list[tuple[str, str, str]]:
    """The keys with dots, their values and their comments. Left out: what names code and other files."""
    path: list[str] = []
    rows = []
    for line in lines:
        if not (match := re.match(r"( *)([\w.]+):\s*(.*?)\s*(?:#\s*(.*))?$", line)):
            continue
        indent, key, value, comment = match.groups()
        path[len(indent) // 2 :] = [key]
        if key not in ("_target_", "defaults") and (value or comment) and path[0] != "defaults":
            rows.append((".".join(path), value.replace("|", "\\|"), escaped(comment or "")))
    return rows


def escaped(text: str) -> str:
    """Text that Markdown prints as it stands, but for `code`."""
    return re.sub(r"(`[^`]*`)|([|*_\[<])", lambda match: match[1] or f"\\{match[2]}", text)


def without_substitutions(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """|x| in a docstring is an absolute value."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("options", Options)
    app.add_directive("help", Help)
    app.connect("autodoc-process-docstring", without_substitutions)
    return {"parallel_read_safe": True}
