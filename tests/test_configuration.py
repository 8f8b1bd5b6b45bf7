"""What an operator reads about configuration is what settings.py does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def variables_of_settings() -> dict[str, str | None]:
    """Returns what settings.py reads, with the default as text; None where it is computed."""
    found: dict[str, str | None] = {}
    for node in ast.walk(ast.parse((ROOT / "config/settings.py").read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        is_secret = isinstance(node.func, ast.Name) and node.func.id == "secret"
        is_env = (
            isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "env"
        )
        name = node.args[0]
        if not (is_secret or is_env) or not isinstance(name, ast.Constant):
            continue
        default = node.args[1] if len(node.args) > 1 else None
        variable = str(name.value)
        found[variable] = str(default.value) if isinstance(default, ast.Constant) else None
        if is_secret:
            found[f"{variable}_FILE"] = None
    return found


def variables_of_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return {
        match[1]: match[2] for line in lines if (match := re.match(r"#? ?([A-Z_]+)=(.*)$", line))
    }


def variables_of_readme() -> set[str]:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    return set(rows)


def test_example_environment_names_exactly_what_settings_read() -> None:
    assert variables_of_example().keys() == variables_of_settings().keys()


def test_readme_documents_exactly_what_settings_read() -> None:
    assert variables_of_readme() == variables_of_settings().keys()


def test_example_environment_shows_the_defaults() -> None:
    example = variables_of_example()
    stated = {name: text for name, text in variables_of_settings().items() if text}
    assert {name: example[name] for name in stated} == stated


def test_only_settings_read_the_environment() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for app in ("config", "leads", "devices", "broadcasts", "campaigns", "sequences")
        for path in (ROOT / app).rglob("*.py")
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text())
    ]
    # The supervisor tells its children whose children they are.
    allowed = ("config/settings.py", "config/wsgi.py", "broadcasts/supervisor.py")
    assert [path for path in readers if path not in allowed] == []


def run_check(**environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `manage.py check --deploy` with this environment and nothing of ours in it."""
    ours = variables_of_settings().keys()
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ours} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_address_with_https_and_a_key_make_a_safe_installation(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k8vJ2mX4qLw9ZrT6yN1bH3sD5fG7aPcEuOiRxVtMlQwYzBnKjShUdF\n")
    done = run_check(
        SITE_URL="https://example.test",
        SECRET_KEY_FILE=str(key),
        DATABASE_URL="sqlite://:memory:",
        DEBUG="0",
    )
    assert done.returncode == 0, done.stderr


def test_static_files_are_gathered_where_it_says(tmp_path: Path) -> None:
    """A demo has a folder of its own: two collectstatic in one delete what the other reads."""
    done = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity", "0"],
        cwd=ROOT,
        env=os.environ | {"SECRET_KEY": "x", "DEBUG": "0", "STATIC_DIR": str(tmp_path / "static")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "static" / "staticfiles.json").exists()
    assert "export STATIC_DIR=$dir/static" in (ROOT / "scripts" / "demo").read_text()


def test_without_a_key_it_says_how_to_make_one(tmp_path: Path) -> None:
    # An empty value, so that a .env in the checkout cannot supply one.
    done = run_check(SECRET_KEY="", SECRET_KEY_FILE="", DATABASE_URL="sqlite://:memory:")
    assert done.returncode != 0
    assert "token_urlsafe" in done.stderr


def test_gunicorn_leaves_no_socket_in_the_home_of_whoever_starts_it() -> None:
    gunicorn = [sys.executable, "-m", "gunicorn", "config.wsgi", "--print-config"]
    shown = subprocess.run(
        gunicorn, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert re.search(r"^control_socket_disable += True$", shown.stdout, re.MULTILINE)
