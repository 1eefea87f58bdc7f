"""README and docs/: what is generated is current, README is short and has its two commands, every link resolves."""

import contextlib
import re
import shlex
from urllib.parse import unquote

import pytest
import typer

from docs import generate
from docs.generate import ROOT
from stages.__main__ import app

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def pages() -> dict:
    return generate.pages()


def code_blocks(text: str) -> list[str]:
    """Every code block of a page: fenced, or indented by four spaces after a blank line."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    indented = re.findall(r"(?<=\n\n)((?:    .+\n)+)", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return [block.strip() for block in fenced + indented]


def commands(text: str) -> list[list[str]]:
    """The words of each `cxr ...` of a page's code blocks. A quoted word may go over several lines."""
    words, line = [], ""
    for part in "\n".join(code_blocks(text)).replace("\\\n", " ").splitlines():
        if not line and not re.match(r"\s*(exec \S+/)?cxr ", part):
            continue
        line += part + "\n"
        with contextlib.suppress(ValueError):  # the quotation goes on
            words.append(shlex.split(line, comments=True))
            line = ""
    assert not line, line
    return [line[line[0] == "exec" :] for line in words]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def broken_links(page, text: str) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path) if path else page
        if re.match(r"https?:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("name", ["parameters", "pipeline", "commands", "formats"])
def test_reference_page_is_current(pages, name):
    file = ROOT / "docs" / "reference" / f"{name}.md"
    assert file.read_text(encoding="utf-8") == pages[file], "run `python -m docs.generate`"


def test_graph_and_numbers_of_readme_are_current(pages):
    assert README.read_text(encoding="utf-8") == pages[README], "run `python -m docs.generate`"


def test_readme_is_short_and_has_its_two_commands():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 130
    assert {"make repro", "make test"} <= set(code_blocks(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_resolves(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_link_to_nowhere_is_found():
    text = "[a](README.md) [b](no.md) [c](README.md#nothing) [d](https://x.y) ![e](docs/no.png)\n```\n[f](no)\n```\n"
    assert broken_links(README, text) == ["no.md", "README.md#nothing", "docs/no.png"]


def test_every_parameter_has_a_type_and_most_have_a_sentence(pages):
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|.*\| (.*) \|$", pages[ROOT / "docs/reference/parameters.md"], re.M)
    assert len(rows) == sum(map(len, generate.read_yaml("params.yaml").values()))
    assert all(kind for _, kind, _ in rows)
    assert {name for name, _, text in rows if not text} <= {"seed", "dropout", "scale_min", "scale_max", "precision"}


def test_pages_of_the_site_are_all_in_its_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page != README]
    assert [page for page in pages if f": {page}" not in menu] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_cxr_command_of_a_page_exists_with_its_options(page):
    known = typer.main.get_command(app)
    for _, name, *words in commands(page.read_text(encoding="utf-8")):
        command = known.get_command(None, name)
        assert command, name
        options = {opt.replace("-", "_") for option in command.params for opt in (*option.opts, *option.secondary_opts)}
        given = {word.partition("=")[0].replace("-", "_") for word in words if word.startswith("-") and word != "-"}
        assert given <= options | {"__help"}, f"{name}: {given - options}"


def test_commands_are_read_over_broken_lines():
    page = "\n```sh\ncxr resize --size 224 \\\n    --out x  # a note\nexec .venv/bin/cxr repro\nls\n"
    page += "cxr distribute --command 'a &&\nb'\n```\n"
    first, *rest = commands(page)
    assert first == ["cxr", "resize", "--size", "224", "--out", "x"]
    assert rest == [[".venv/bin/cxr", "repro"], ["cxr", "distribute", "--command", "a &&\nb"]]
