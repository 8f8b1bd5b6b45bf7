"""The house rules that a machine can hold; CONTRIBUTING.md says why they are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.template.loader import get_template

ROOT = Path(__file__).resolve().parent.parent
# Which of our packages a package may import, besides itself.
MAY_IMPORT = {
    "config": {"attachments", "leads", "devices", "broadcasts", "campaigns", "sequences"},
    "campaigns": {"broadcasts", "attachments", "leads", "devices"},
    "sequences": {"broadcasts", "attachments", "leads", "devices"},
    "broadcasts": {"attachments", "devices", "leads"},
    "attachments": set(),
    "leads": set(),
    "devices": set(),
}
FILE_LINES = 400
FUNCTION_LINES = 60
VIEW_LINES = 25


def sources(*suffixes: str) -> list[Path]:
    """Returns our own files with these endings, without migrations."""
    folders = [*MAY_IMPORT, "tests", "benchmarks", "templates", "static"]
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and "migrations" not in path.parts
    )


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yields the path of each Python file of the apps, and what is in it."""
    for path in sources(".py"):
        name = str(path.relative_to(ROOT))
        if not name.startswith(("tests/", "benchmarks/")):
            yield name, ast.parse(path.read_text())


def functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and the top-level package of each import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module.split(".")[0]


def test_imports_point_one_way() -> None:
    assert [
        f"{path}:{line} imports {package}"
        for path, tree in trees()
        for line, package in imported(tree)
        if package in MAY_IMPORT
        and package != (own := path.split("/")[0])
        and package not in MAY_IMPORT[own]
        # What the admin pages of all apps share is a part of the site, as their templates are.
        and not (path.endswith("/admin.py") and package == "config")
    ] == []


def test_web_and_scheduler_import_no_transport() -> None:
    """A transport's library starts threads or a foreign runtime: it is the broadcaster's alone."""
    assert [
        path
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("devices.transports.")
        and node.module not in ("devices.transports.base", "devices.transports.neonize.environment")
        and not path.startswith(("devices/transports/", "broadcasts/"))
    ] == []


def test_one_file_imports_neonize_and_only_when_it_is_needed() -> None:
    """The library begins a foreign runtime, which no process may have that forks."""
    library = {"neonize", "google"}
    users = {path: tree for path, tree in trees() if library & {name for _, name in imported(tree)}}
    assert list(users) == ["devices/transports/neonize/client.py"]
    at_once = [node for tree in users.values() for node in tree.body]
    top = ast.Module([n for n in at_once if isinstance(n, ast.Import | ast.ImportFrom)], [])
    assert not library & {name for _, name in imported(top)}


def test_no_row_is_saved_whole() -> None:
    """A bare save() writes back what another process has changed since it was read."""
    assert [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "save"
        and not path.endswith("/forms.py")
        and ast.unparse(node.func.value) not in ("form", "super()")
        and "update_fields" not in [keyword.arg for keyword in node.keywords]
    ] == []


def test_raw_sql_is_in_the_claim_and_the_fan_out_only() -> None:
    """And in config, which asks the database server what it is. The simulator's recorder has none,
    but runs an INSERT of Django's again and again."""
    has_its_own = {
        "broadcasts/claiming.py": ("cursor",),
        "broadcasts/enqueueing.py": ("cursor",),
        "devices/transports/recorder.py": ("cursor",),
    }
    assert [
        f"{path}:{node.lineno} {node.attr}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("cursor", "raw", "extra", "RawSQL")
        and node.attr not in has_its_own.get(path, ())
        and not path.startswith("config/")
    ] == []


def test_files_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sources(".py", ".html", ".css", ".js")
    }
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short() -> None:
    assert [
        f"{path}:{node.lineno} {node.name} has {lines} lines"
        for path, tree in trees()
        for node, lines in functions(tree)
        if lines > FUNCTION_LINES
    ] == []


def test_views_are_short() -> None:
    assert [
        f"{path}:{node.lineno} {node.name} has {lines} lines"
        for path, tree in trees()
        for node, lines in functions(tree)
        if lines > VIEW_LINES and [arg.arg for arg in node.args.args[:1]] == ["request"]
    ] == []


def test_modules_are_named_by_their_noun() -> None:
    vague = {"services", "utils", "helpers", "signals", "common", "misc"}
    assert [path for path, _ in trees() if Path(path).stem in vague] == []


@pytest.mark.parametrize("path", sources(".html"), ids=lambda path: f"{path.relative_to(ROOT)}")
def test_template_compiles_and_suits_the_content_security_policy(path: Path) -> None:
    get_template(str(path.relative_to(ROOT / "templates")))
    # What the browser would refuse, silently for the one who wrote it.
    refused = r"<style|\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|<script(?![^>]*\ssrc=)|javascript:"
    assert re.findall(refused, path.read_text(), re.IGNORECASE) == []


def test_pages_load_nothing_from_elsewhere() -> None:
    loads = re.compile(r"(?:src|href|action|@import|url\()\s*[=(]?\s*[\"']?(?:https?:)?//")
    assert [
        str(path) for path in sources(".html", ".css", ".js") if loads.search(path.read_text())
    ] == []


def test_lock_files_name_no_index_and_pin_everything_with_hashes() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        requirements = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert requirements
        assert all(re.match(r"[\w.-]+==[\w.]+ .*\\$", line) for line in requirements)


def test_whoever_contributes_is_told_of_every_folder_and_page() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    tests = ["tests", "tests/faults", "tests/whatsapp"]
    folders = [*MAY_IMPORT, "templates", "static", *tests, "benchmarks", "docs"]
    assert [name for name in folders if f"`{Path(name).name}/`" not in told] == []
    pages = (ROOT / "docs").glob("*.md")
    assert [page.name for page in pages if f"(docs/{page.name})" not in told] == []


def test_every_command_says_what_it_does() -> None:
    ours = {name: app for name, app in get_commands().items() if app in MAY_IMPORT}
    assert {"seed_demo", "watch_campaign"} <= ours.keys()
    assert [name for name, app in ours.items() if not load_command_class(app, name).help] == []


def test_every_model_has_its_table_named_as_people_query_it() -> None:
    """The original's monitoring SQL names tables: none may get Django's app_model name."""
    names = {
        model._meta.db_table
        for app in MAY_IMPORT
        for model in apps.get_app_config(app).get_models()
    }
    assert [name for name in names if name.startswith(tuple(f"{app}_" for app in MAY_IMPORT))] == []
