"""The reference of tables is that of a study: every table and every column is described."""

from pathlib import Path

import pyarrow.parquet as pq

from neuroloom.reference import described_tables

from .conftest import ROOT


def test_every_column_of_a_study_is_described(smoke: Path) -> None:
    told = described_tables(ROOT / "resources/tables.yaml")
    tables = sorted((smoke / "results/smoke/tables").glob("*.parquet"))
    assert len(tables) > 30
    for table in tables:
        assert table.stem in told, f"{table.stem}: describe it in resources/tables.yaml"
        found = {name for name in pq.read_schema(table).names if not name.startswith("__")}
        missing = found - set(told[table.stem]["columns"])
        assert not missing, f"{table.stem}: describe {sorted(missing)} in resources/tables.yaml"


def test_every_rule_that_is_named_writes_tables() -> None:
    rules = "\n".join(file.read_text() for file in (ROOT / "rules").glob("*.smk"))
    for name, table in described_tables(ROOT / "resources/tables.yaml").items():
        assert f"rule {table['rule']}:" in rules, name
