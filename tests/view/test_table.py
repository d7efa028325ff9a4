"""Tables of text cells: they come back from JSON as they were."""

from __future__ import annotations

import json
from dataclasses import asdict

from tomat.view.table import Table


def test_a_table_comes_back_from_json_with_its_links() -> None:
    table = Table(
        "Runs", ("run", "loss"), (("a", "1"), ("b", "2")), (("c", "3"),), "A note.", ("https://x/a", "")
    )
    stored = json.loads(json.dumps(asdict(table)))
    assert Table.from_json(stored) == table
    # Tables of earlier versions have no links.
    del stored["links"]
    assert Table.from_json(stored) == Table(table.title, table.head, table.rows, table.below, table.note)
