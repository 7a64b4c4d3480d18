"""What every provider's file must be: its data is linted, its code does no I/O, its readers take anything."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local import simulators
from unified_crm import mapping, paging, providers, spread
from unified_crm import provider as declarations
from unified_crm.errors import REMOTE_CODES
from unified_crm.mapping import Table
from unified_crm.models import PIPELINE, STAGE, Status
from unified_crm.provider import Call, Provider, Request, Setting

ENTITIES = ("contact", "account", "opportunity", "tickets", "2-1234567")


def _tables(provider: Provider) -> list[tuple[Table, Table]]:
    """The pipeline table and its stage table, for each entity that the provider knows."""
    remote = [name for each in ENTITIES if (name := provider.entities.to_remote(each)) is not None]
    pipelines = [provider.pipelines.table(name) for name in remote]
    return [(table, stage) for table in pipelines if (stage := table["stages"].each) is not None]


def test_each_provider_is_named_as_its_file_and_has_a_simulator(provider: Provider) -> None:
    assert provider.name in providers.names()
    assert simulators.load(provider.name).demo_account["provider"] == provider.name


def test_every_simulator_stands_for_a_provider() -> None:
    assert list(simulators.names()) == providers.names()


def test_addresses_are_https_and_documentation_is_linked(provider: Provider) -> None:
    for address in (provider.base_url, *((provider.oauth.url, provider.oauth.authorize) if provider.oauth else ())):
        assert address.startswith("https://") or _origin(provider, address) is not None
    assert not provider.base_url.endswith("/")
    assert provider.docs
    source = _source(provider)
    for link in provider.docs:
        assert link.startswith("https://")
        assert link in (ast.get_docstring(ast.parse(source)) or "")


def test_each_row_names_a_unified_field_once(provider: Provider) -> None:
    assert _tables(provider)
    for pipeline, stage in _tables(provider):
        for table, fields in ((pipeline, PIPELINE), (stage, STAGE)):
            names = [row.unified for row in table]
            assert len(names) == len(set(names))
            assert set(names) <= set(fields)
        assert {"id", "name", "stages"} <= {row.unified for row in pipeline}
        assert {"id", "name"} <= {row.unified for row in stage}


def test_each_enumeration_stays_inside_the_unified_one(provider: Provider) -> None:
    for _, stage in _tables(provider):
        if "status" in stage:
            assert set(stage["status"].values or {}) <= set(get_args(Status))


def test_a_row_says_how_to_write_or_that_it_is_read_only(provider: Provider) -> None:
    for tables in _tables(provider):
        for table in tables:
            for row in table:
                assert not (row.read_only and (row.required or row.write)), row
                assert not (row.read and not (row.read_only or row.values or row.write)), row


def test_each_error_rule_has_a_known_code_and_an_error_status(provider: Provider) -> None:
    for rule in provider.errors:
        assert rule.code in REMOTE_CODES
        assert 400 <= rule.status < 600


def test_credentials_of_each_kind_become_headers_in_lower_case(provider: Provider) -> None:
    assert set(provider.auth) <= {"api_key", "bearer", "oauth2"}
    assert provider.auth


def test_flows_are_generators_that_begin_with_an_absolute_path(provider: Provider) -> None:
    for verb in (provider.pipelines.create, provider.pipelines.list, _get_one(provider)):
        if verb is None:
            continue
        assert inspect.isgeneratorfunction(verb)
        entity = provider.entities.to_remote("opportunity")
        assert entity is not None
        flow = verb(Call(entity, {"name": "Sales", "stages": [{"name": "One"}]}))
        request = next(flow)
        assert isinstance(request, Request)
        assert request.path.startswith("/")
        assert request.method == "GET" or request.main
        flow.close()


def test_a_provider_is_short_and_does_no_input_or_output(provider: Provider) -> None:
    source = _source(provider)
    assert len(source.splitlines()) <= 200
    allowed = {
        mapping.__name__,
        declarations.__name__,
        paging.__name__,
        spread.__name__,
        "__future__",
        "collections.abc",
        "functools",
        "typing",
        "re",
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.module in allowed, f"line {node.lineno} imports {node.module}"
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed, f"line {node.lineno}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "exec", "eval", "__import__"}, f"line {node.lineno}"


def test_loading_a_provider_imports_no_other() -> None:
    code = (
        "import sys, unified_crm.accounts, unified_crm.engine\n"
        "from unified_crm import providers\n"
        "there = lambda: {n.rpartition('.')[2] for n in sys.modules if n.startswith('unified_crm.providers.')}\n"
        "assert there() == set(), there()\n"
        "for name in providers.names():\n"
        "    before = there()\n"
        "    providers.load(name)\n"
        "    assert there() - before == {name}, there()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_a_name_that_is_no_provider_is_a_lookup_error() -> None:
    for name in ("nobody", "", "../close", "close.x", "Close", "__init__"):
        with pytest.raises(LookupError):
            providers.load(name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", providers.names())
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_reading_takes_whatever_a_provider_may_send(name: str, data: st.DataObject) -> None:
    for pipeline, stage in _tables(providers.load(name)):
        stages = st.lists(JSON | _record(stage), max_size=3)
        record = data.draw(_record(pipeline))
        if isinstance(record, dict) and data.draw(st.booleans()):
            record = pipeline["stages"].into(record, data.draw(stages))
        unified = pipeline.to_unified(record)
        for each in unified["stages"]:
            assert each.get("status") in (None, *get_args(Status))
        json.dumps(unified)


def _get_one(provider: Provider) -> Any:
    get = provider.pipelines.get

    def flow(call: Call) -> Any:
        return (yield from get(call, "an-id")) if get else None

    return flow


def _record(table: Table) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={row.path[0]: JSON for row in table} | {"order_nr": JSON, "sort": JSON})


def _origin(provider: Provider, address: str) -> Setting | None:
    """The setting that an address begins with, which must be one of a fixed pattern of hosts."""
    name = re.match(r"\{(\w+)\}", address)
    return next((each for each in provider.settings if name and each.name == name[1] and each.suffixes), None)


def test_only_declared_settings_stand_in_addresses_and_each_has_a_value(provider: Provider) -> None:
    texts = [provider.base_url, *provider.headers.values(), *([provider.oauth.url] if provider.oauth else [])]
    used = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}
    declared = {each.name: each for each in provider.settings}
    assert len(declared) == len(provider.settings)
    assert used <= declared.keys()
    for name in used:
        assert declared[name].required or declared[name].default is not None, f"{name} may be missing"
    for each in provider.settings:
        assert each.about
        assert each.default is None or each.allows(each.default)


HOSTS = (
    "evil.example",
    "https://evil.example",
    "https://acme.SUFFIX.evil.example",
    "https://evil.example/acme.SUFFIX",
    "https://evil.example#.SUFFIX",
    "https://evil.example?.SUFFIX",
    "https://user@acme.SUFFIX",
    "https://acme.SUFFIX:8443",
    "https://acme.SUFFIX/path",
    "https://a.b.SUFFIX",
    "https://acmeSUFFIX",
    "https://acme.SUFFIX\n",
    "http://acme.SUFFIX",
    "https://-acme.SUFFIX",
    "https://acme-.SUFFIX",
    "https://.SUFFIX",
    "acme/../x",
    "acme.evil.example",
    "acme\n",
    "acme:80",
    "a b",
    "a@b",
    "{secret}",
    "",
    7,
    ["acme"],
)


def test_a_setting_that_stands_in_an_address_cannot_lead_elsewhere(provider: Provider) -> None:
    used = {name for _, name, _, _ in Formatter().parse(provider.base_url) if name}
    for each in provider.settings:
        if each.name in used:
            for host in HOSTS:
                for suffix in each.suffixes or ("kommo.com",):
                    value = host.replace("SUFFIX", suffix) if isinstance(host, str) else host
                    assert not each.allows(value), value


def test_each_token_endpoint_is_declared_where_oauth_is_taken(provider: Provider) -> None:
    assert (provider.oauth is not None) == ("oauth2" in provider.auth)


def _source(provider: Provider) -> str:
    (folder,) = providers.__path__
    return Path(folder, f"{provider.name}.py").read_text(encoding="utf-8")
