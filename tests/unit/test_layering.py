"""Dependencies point inward, and what differs between providers stands in their files."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unified_crm import providers

ROOT = Path(__file__).resolve().parents[2]
LAYER = ROOT / "layers" / "crm" / "unified_crm"
FUNCTIONS = ROOT / "functions"
PURE = {"__future__", "collections", "collections.abc", "dataclasses", "datetime", "decimal", "enum", "functools",
        "itertools", "math", "operator", "re", "string", "typing", "unicodedata", "urllib.parse"}  # fmt: skip
"""Standard modules that do no I/O."""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "__import__":
            yield "__import__"


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at() -> None:
    assert len(_files(LAYER)) > 10
    assert len(_files(FUNCTIONS)) > 5
    assert {"close", "hubspot"} <= set(providers.names())


@pytest.mark.parametrize("path", _files(LAYER), ids=_name)
def test_the_layer_knows_no_function_and_no_event(path: Path) -> None:
    tops = {name.split(".")[0] for name in _imports(path)}
    assert not tops & {"functions", "api", "authorizer", "local", "tests", "moto"}
    assert not any("event_handler" in name or "data_classes" in name for name in _imports(path))


@pytest.mark.parametrize("path", _files(FUNCTIONS), ids=_name)
def test_functions_know_no_local_world_and_no_single_provider(path: Path) -> None:
    names = set(_imports(path))
    assert not {name.split(".")[0] for name in names} & {"local", "tests", "moto", "layers", "functions"}
    assert not any(name.startswith("unified_crm.providers.") for name in names)


def test_the_api_uses_the_layer_and_the_authorizer_needs_none() -> None:
    assert any(name.startswith("unified_crm") for path in _files(FUNCTIONS / "api") for name in _imports(path))
    assert not any(
        name.split(".")[0] in ("unified_crm", "api")
        for path in _files(FUNCTIONS / "authorizer")
        for name in _imports(path)
    )


@pytest.mark.parametrize("name", providers.names())
def test_a_provider_imports_declarations_and_nothing_that_does_io(name: str) -> None:
    path = LAYER / "providers" / f"{name}.py"
    modules = {node.module or "" for node in ast.walk(_tree(path)) if isinstance(node, ast.ImportFrom)}
    modules |= {each.name for node in ast.walk(_tree(path)) if isinstance(node, ast.Import) for each in node.names}
    assert modules <= PURE | {f"unified_crm.{each}" for each in ("mapping", "provider", "paging", "spread")}
    called = {
        node.func.id for node in ast.walk(_tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "compile", "__import__"}


def _words(node: ast.AST) -> Iterator[str]:
    return (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


@pytest.mark.parametrize(
    "path", [each for each in _files(ROOT / "layers") + _files(FUNCTIONS) if each.parent.name != "providers"], ids=_name
)
def test_no_provider_is_named_outside_its_file(path: Path) -> None:
    """Neither compared with, nor a key, nor an argument; docstrings may give one as an example."""
    tree = _tree(path)
    documents = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    named = {
        each.value
        for each in ast.walk(tree)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in documents
    }
    assert not {word for word in named if word.lower() in providers.names()}


@pytest.mark.parametrize(
    "path", [each for each in _files(ROOT / "layers") + _files(FUNCTIONS) if each.parent.name != "providers"], ids=_name
)
def test_no_provider_is_told_from_another_outside_its_file(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Compare):
            sides = {ast.unparse(each) for each in (node.left, *node.comparators)}
            assert not {
                side
                for side in sides
                if side in ("provider", "provider.name", "provider.label", "account.provider.name")
            }
        if isinstance(node, ast.Match):
            assert "provider" not in ast.unparse(node.subject)


def test_importing_the_package_imports_no_provider_and_loading_one_only_that() -> None:
    script = (
        "import sys, unified_crm.engine, unified_crm.accounts\n"
        "loaded = lambda: sorted(m for m in sys.modules if m.startswith('unified_crm.providers.'))\n"
        "first = loaded(); from unified_crm import providers; providers.load('close'); print(first, loaded())"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=LAYER.parent, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[] ['unified_crm.providers.close']"


def test_a_start_imports_nothing_that_a_create_can_do_without() -> None:
    """Each of these costs every cold start: what needs one imports it then."""
    spared = {"api.access", "api.idempotency", "api.snapshot", "aws_xray_sdk", "asyncio", "boto3", "statistics"}
    names = ("admin", "breaker", "changes", "edit", "oauth", "ordering", "paging", "settle", "spread")
    script = "import sys; from api.app import handler; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": os.pathsep.join((str(LAYER.parent), str(FUNCTIONS)))},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = set(ran.stdout.split())
    assert {"unified_crm.verbs", "pydantic"} <= imported
    assert not imported & (spared | {f"unified_crm.{each}" for each in names})


@pytest.mark.parametrize(
    "name", ["", "nowhere", "Close", "close ", "../close", "close.py", "os", "__init__", "close\n"]
)
def test_an_unknown_provider_is_a_lookup_error(name: str) -> None:
    with pytest.raises(LookupError):
        providers.load(name)


def test_a_provider_whose_own_import_fails_is_not_an_unknown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        providers.load("broken")
