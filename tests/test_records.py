"""The records that cross to the compiled kernels: the same fields on both sides, filled by name."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from set_cli.native import records
from tests.conftest import run_python

PACKAGE = Path(__file__).resolve().parent.parent / "set_cli"


def fields() -> dict[str, tuple[str, ...]]:
    return {name: record._fields for name, record in records.RECORDS.items()}


def test_the_compiled_module_has_the_records_of_this_package() -> None:
    """By itself: a module that is refused counts as missing, and the other tests of the kernels are skipped."""
    try:
        compiled = importlib.import_module("set_cli.native._core")
    except ModuleNotFoundError:
        pytest.skip("no compiled kernels here")
    records.check(compiled)
    assert fields() == compiled.RECORDS


@pytest.mark.parametrize("name", records.RECORDS)
def test_two_fields_in_each_others_place_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = SimpleNamespace(RECORDS=fields())
    records.check(compiled)
    first, second, *rest = records.RECORDS[name]._fields
    swapped: Any = NamedTuple(name, [(field, int) for field in (second, first, *rest)])  # type: ignore[misc]
    monkeypatch.setitem(records.RECORDS, name, swapped)
    with pytest.raises(ImportError, match=f"expected {name} with the fields {second}, {first}") as refused:
        records.check(compiled)
    assert f"found {first}, {second}" in str(refused.value)


def test_a_module_with_other_records_is_refused() -> None:
    """One from before a record was added, from after one was removed, and from before there were any."""
    name, *_ = records.RECORDS
    without = {key: names for key, names in fields().items() if key != name}
    for there in (without, fields() | {"Extra": ("x",)}):
        with pytest.raises(ImportError, match=r"\(none\)"):
            records.check(SimpleNamespace(RECORDS=there))
    with pytest.raises(ImportError, match="they belong to another version of set-cli"):
        records.check(SimpleNamespace())


def test_the_package_works_without_a_module_that_does_not_fit(tmp_path: Path) -> None:
    """As without one, and says why and what to do."""
    there = fields()
    weight, bias, *rest = there["Contrast"][1:]
    there["Contrast"] = (there["Contrast"][0], bias, weight, *rest)
    program = f"""
import json, sys, types
sys.modules["set_cli.native._core"] = types.SimpleNamespace(RECORDS={there!r})
from set_cli import native
from set_cli.sparse import SparseLinear
print(json.dumps([native.core is None, native.missing, SparseLinear(5, 5, epsilon=1, seed=0).engine.name]))
"""
    result = run_python("-c", program, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    is_missing, why, engine = json.loads(result.stdout)
    assert is_missing
    assert engine != "native"
    assert "the compiled kernels cannot be loaded (they belong to another version of set-cli: expected Contrast" in why
    assert "then install set-cli again" in why


def test_records_are_filled_by_name() -> None:
    """By position two addresses could change places, and nothing would notice."""
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            is_record = isinstance(called, ast.Attribute) and ast.unparse(called.value) == "records"
            if isinstance(called, ast.Name):
                is_record = path.name == "records.py"
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if is_record and name in records.RECORDS:
                assert not node.args, f"{path}:{node.lineno}: {name} by position"
                assert all(keyword.arg for keyword in node.keywords), f"{path}:{node.lineno}: {name} from a mapping"
                found += 1
    assert found > len(records.RECORDS)
