"""The documents are true: their code runs, and prints what they say it prints.

- ```` ```python ```` fences run in order, one namespace and one folder per page. What
  one prints stands in the ```` ```text ```` fence right behind it.
- ```` ```console ```` fences hold `$ zeroshot ...` commands (or `$ curl ...`, run where
  there is curl), which run in the same folder, each followed by what it prints (stdout;
  stderr where it fails).
- Output may leave things out with `...`; spacing does not count, and decimals may be
  0.1 off: training on another processor gives slightly other figures.
- A fence opts out only with ```` ```python skip="a reason" ````.
"""

import contextlib
import copy
import doctest
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from cli_runs import run
from nbclient import NotebookClient

from zeroshot import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PLUGIN = ROOT / "examples" / "write_a_plugin"
WRITTEN = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
PAGES = [*WRITTEN, *RESULTS, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

# Shown, not run. Their truth is compared elsewhere here, or they are output.
SHOWN = {"csv", "text", "toml"}
FENCE = re.compile(r"^```(\w*)[ ]*(.*)\n((?s:.*?))^```$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
OUTPUT = doctest.OutputChecker()
DECIMAL = re.compile(r"-?\b\d+\.\d+\b")
TOLERANCE = 0.1
LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Fence(NamedTuple):
    line: int  # of its first line of content, from 1
    language: str
    content: str
    skip: str


class WrongPage(AssertionError):
    """A page does not do what it says."""


def fences(text: str) -> list[Fence]:
    """Return the fences of a page; refuse one that nobody would run or compare."""
    found = []
    for match in FENCE.finditer(text):
        language, options, content = match.groups()
        line = text.count("\n", 0, match.start()) + 2
        skip = re.fullmatch(r'(?:skip="([^"]*)")?', options)
        if language not in SHOWN | {"python", "console"}:
            raise WrongPage(f"line {line}: a fence of language '{language}' is not run")
        if skip is None or (options and not skip[1].strip()):
            raise WrongPage(f'line {line}: expected skip="a reason", got {options}')
        found.append(Fence(line, language, content, skip[1] or ""))
    if text.count("```") != 2 * len(found):
        raise WrongPage("a fence is not closed")
    return found


def run_page(text: str, name: str) -> None:
    """Run the fences of a page in the current folder."""
    page = types.ModuleType(re.sub(r"\W", "_", f"page_{name}"))
    sys.modules[page.__name__] = page  # where pickle finds the page's classes
    try:
        printed = ""
        for fence in fences(text):
            where = f"{name}, line {fence.line}"
            if printed and fence.language != "text":
                raise WrongPage(f"{where}: expected what was printed: {printed}")
            if fence.skip:
                continue
            if fence.language == "text" and printed:
                compare(fence.content, printed, where)
                printed = ""
            elif fence.language == "python":
                # Blank lines before it give tracebacks the line of the page.
                code = "\n" * (fence.line - 1) + fence.content
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(code, name, "exec"), page.__dict__)
                printed = out.getvalue()
            elif fence.language == "console":
                run_console(fence.content, where)
        if printed:
            raise WrongPage(f"{name}: expected what was printed last: {printed}")
    finally:
        del sys.modules[page.__name__]


def run_console(content: str, where: str) -> None:
    """Run the commands of a console fence and compare what they print."""
    before, *commands = re.split(r"^\$ ", content, flags=re.MULTILINE)
    if before.strip() or not commands:
        raise WrongPage(f"{where}: expected '$ zeroshot ...', got {content}")
    for command in commands:
        line, _, expected = re.sub(r"\\\n\s*", "", command).partition("\n")
        program, *arguments = shlex.split(line)
        if program not in ("zeroshot", "curl"):
            raise WrongPage(f"{where}: expected '$ zeroshot ...', got '$ {line}'")
        if program == "curl":
            if shutil.which("curl") is None:
                continue
            asked = subprocess.run(
                ["curl", *arguments], capture_output=True, encoding="utf-8"
            )
            if asked.returncode != 0:
                raise WrongPage(f"{where}: '{line}' failed: {asked.stderr}")
            compare(expected, asked.stdout, where)
            continue
        done = run(*arguments, env={"NO_COLOR": "1"})
        if done.exit_code != 0 and not expected.startswith("error: "):
            raise WrongPage(f"{where}: '{line}' failed: {done.stderr}")
        compare(expected, done.stderr if done.exit_code else done.stdout, where)


def compare(expected: str, got: str, where: str) -> None:
    """Refuse output that is not what the page shows."""
    shown, printed = (
        DECIMAL.sub("0.0", text).strip() + "\n" for text in (expected, got)
    )
    same = OUTPUT.check_output(shown, printed, LOOSELY)
    numbers = [[float(n) for n in DECIMAL.findall(text)] for text in (expected, got)]
    if same and len(numbers[0]) == len(numbers[1]):  # else '...' hides some
        pairs = zip(*numbers, strict=True)
        same = all(abs(a - b) <= TOLERANCE for a, b in pairs)
    if not same:
        raise WrongPage(f"{where}: expected\n{expected}\ngot\n{got}")


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_code_of_a_page_runs_and_prints_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(path.read_text(encoding="utf-8"), path.name)


def fence(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


@pytest.mark.parametrize(
    "text",
    [
        fence("python", "1 / 0"),
        fence("python", "x = 1") + fence("python", "assert x == 2"),
        fence("python", "print('zebra')"),
        fence("python", "print('zebra')") + fence("text", "okapi"),
        fence("python", "print('zebra')") + fence("python", "pass"),
        fence("python", "print('zebra 0.5')") + fence("text", "zebra 0.9"),
        fence('python skip=""', "pass"),
        fence("python ignore", "pass"),
        fence("", "pass"),
        fence("sh", "make demo"),
        fence("console", "zeroshot demo"),
        fence("console", "$ make demo"),
        fence("console", "$ zeroshot --version", "zeroshot 999"),
        fence("console", "$ zeroshot no-such-command"),
        fence("console", "$ zeroshot embeddings info nowhere.txt"),
        "```python\npass\n",
    ],
)
def test_page_that_is_wrong_fails(text):
    with pytest.raises((WrongPage, ZeroDivisionError, AssertionError)):
        run_page(text, "wrong.md")


@pytest.mark.parametrize(
    "text",
    [
        fence('python skip="needs photographs"', "1 / 0"),
        fence("python", "x = 1") + fence("python", "print(x)") + fence("text", "1"),
        fence("python", "print('zebra 0.123')") + fence("text", "zebra 0.12"),
        fence("console", "$ zeroshot --version", "zeroshot ..."),
        fence(
            "console",
            "$ zeroshot embeddings info a.txt",
            "error: Expected a vector...",
        ),
        fence("text", "1 / 0"),
    ],
)
def test_page_that_is_right_passes(text):
    run_page(text, "right.md")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_of_a_page_lead_somewhere(path):
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    broken = []
    for link in LINK.findall(text):
        file, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", file):  # of the web; not looked at, tests are offline
            continue
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def load_generator() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("cli_page", DOCS / "generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cli_page_is_what_its_generator_writes():
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == load_generator().cli_page(), "run docs/generate_cli.py"


def test_cli_page_names_every_option_that_help_names():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for section in page.split("\n## zeroshot ")[1:]:
        command = section.partition("\n")[0].split()
        done = run(*command, "--help", env={"NO_COLOR": "1", "COLUMNS": "200"})
        # At the beginning of a row; texts mention options of other commands.
        named = set(re.findall(r"^\W*?(--[a-z-]+)", done.stdout, re.MULTILINE))
        assert "--help" in named
        assert all(f"`{option}" in section for option in named - {"--help"}), command


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_example_runs_by_itself(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_example_says_what_it_needs(script):
    header = re.match(
        r"# /// script\n((?:# .*\n)+)# ///\n", script.read_text(encoding="utf-8")
    )
    assert header, "expected a PEP 723 header"
    needs = tomllib.loads(re.sub(r"^# ", "", header[1], flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert needs["requires-python"] == project["requires-python"]
    assert "zeroshot" in needs["dependencies"]


# Of a Jupyter kernel's own making.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs_and_prints_what_is_in_it(path, tmp_path):
    kept = nbformat.read(path, as_version=4)
    run = copy.deepcopy(kept)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(run, timeout=300, resources=resources).execute()
    for n, (old, new) in enumerate(zip(kept.cells, run.cells, strict=True)):
        if old.cell_type == "code":
            compare(printed_by(old), printed_by(new), f"{path.name}, cell {n}")
            assert drawn_by(old) == drawn_by(new)


def printed_by(cell) -> str:
    return "".join(o.text for o in cell.outputs if o.get("name") == "stdout")


def drawn_by(cell) -> int:
    return sum("image/png" in o.get("data", ()) for o in cell.outputs)


@pytest.mark.parametrize("name", ["pyproject.toml", "zeroshot_mean_color.py"])
def test_plugins_page_shows_the_example_plugin(name):
    shown = [f.content for f in fences((DOCS / "plugins.md").read_text("utf-8"))]
    assert (PLUGIN / name).read_text(encoding="utf-8") in shown


NO_NETWORKS = {"color-hog", "keras", "litert", "mean-color", "onnx", "tfhub", "clip"}


def test_readme_counts_the_networks():
    networks = [name for name in registry.names("backbones") if name not in NO_NETWORKS]
    assert f"{len(networks)} networks" in (ROOT / "README.md").read_text("utf-8")


def test_readme_names_every_built_in_plugin():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for kind in ("embeddings", "projections"):
        for name in registry.names(kind):
            assert f"`{name}" in readme, f"{kind}: {name}"


def test_contributing_has_the_commands_of_make_test():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for command in recipe[1].replace("$(BIN)/", ".venv/bin/").splitlines():
        assert command.strip() in page


def test_readme_has_the_two_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in readme
