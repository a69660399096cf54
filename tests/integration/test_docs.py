"""Documents that name files name files that exist."""

import re

import pytest

from conftest import ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "NEWS.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_architecture_names_real_files():
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    for name in re.findall(r"`((?:src/)?(?:\w+)/[\w-]+\.[ch])`", text):
        path = ROOT / (name if name.startswith("src/") else f"src/{name}")
        assert path.exists(), f"docs/ARCHITECTURE.md names {name}"


def test_architecture_has_every_layer():
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    for layer in sorted(path.parent.name for path in ROOT.glob("src/*/meson.build")):
        assert f"`{layer}/`" in text or f"`{layer}`" in text
