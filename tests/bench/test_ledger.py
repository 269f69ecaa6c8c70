"""The ledger of the benchmark: what counts as worse, and what is only the machine."""

from __future__ import annotations

from pathlib import Path

import ledger
from ledger import Record
from report import Row, Spread, ratios, told


def row(server: str, *values: float, figure: str = "us_per_message", case: str = "1,000 plain") -> Row:
    return Row("fan-out", case, server, runs=[{figure: value} for value in values])


def record(*rows: Row, machine: str = "2 × EPYC") -> Record:
    return Record(
        date="2026-11-28T10:00:00Z", commit="0123456789", machine=machine, versions={}, rows=list(rows)
    )


def test_a_run_that_no_run_before_reaches_is_worse() -> None:
    before = record(row("send_loop", 10, 10, 10), row("aurexd", 12, 13, 14))
    after = record(row("send_loop", 10, 10, 10), row("aurexd", 15, 16, 17))
    worse, better = ledger.changes(before, after)
    assert len(worse) == 1
    assert "fan-out: 1,000 plain" in worse[0]
    assert not better
    assert ledger.changes(after, before) == (
        [],
        [
            worse[0].replace(
                "1.30 (1.20 to 1.40) before, 1.60 (1.50 to 1.70)",
                "1.60 (1.50 to 1.70) before, 1.30 (1.20 to 1.40)",
            )
        ],
    )


def test_what_lies_within_the_spread_is_neither() -> None:
    before = record(row("send_loop", 10, 10, 10), row("aurexd", 12, 13, 16))
    after = record(row("send_loop", 10, 10, 10), row("aurexd", 15, 16, 17))
    assert ledger.changes(before, after) == ([], [])


def test_a_machine_that_is_slower_for_everybody_is_no_regression() -> None:
    before = record(row("send_loop", 10, 10, 10), row("aurexd", 12, 13, 14))
    after = record(row("send_loop", 20, 20, 20), row("aurexd", 24, 26, 28), machine="an older one")
    assert ledger.changes(before, after) == ([], [])


def test_where_more_is_better_less_is_worse() -> None:
    before = record(
        row("plain loop", 100, 100, figure="ticks_per_cpu_s"), row("aurexd", 30, 31, figure="ticks_per_cpu_s")
    )
    after = record(
        row("plain loop", 100, 100, figure="ticks_per_cpu_s"), row("aurexd", 20, 21, figure="ticks_per_cpu_s")
    )
    assert len(ledger.changes(before, after)[0]) == 1
    assert len(ledger.changes(after, before)[1]) == 1


def test_figures_without_a_peer_are_compared_on_machines_of_one_kind_only() -> None:
    before = record(row("aurexd", 12, 13, 14))
    assert ledger.changes(before, record(row("aurexd", 22, 23, 24)))[0]
    assert ledger.changes(before, record(row("aurexd", 22, 23, 24), machine="another")) == ([], [])


def test_cases_that_only_one_of_the_two_has_are_left_out() -> None:
    assert ledger.changes(record(row("aurexd", 1)), record(row("aurexd", 9, case="10,000 TLS"))) == ([], [])


def test_the_latest_record_is_that_of_the_same_kind_of_machine(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    assert ledger.latest("2 × EPYC", file) is None
    for each in (
        record(row("aurexd", 1)),
        record(row("aurexd", 2)),
        record(row("aurexd", 3), machine="another"),
    ):
        ledger.append(each, file)
    found = ledger.latest("2 × EPYC", file)
    assert found is not None
    assert found.rows[0].values("us_per_message") == [2]


def test_of_each_case_the_latest_record_has_what_was_last_measured(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    ledger.append(record(row("aurexd", 1), row("aurexd", 5, case="10,000 TLS")), file)
    ledger.append(record(row("aurexd", 2)), file)
    found = ledger.latest("2 × EPYC", file)
    assert found is not None
    assert [each.values("us_per_message") for each in found.rows] == [[2], [5]]


def test_ratios_are_made_of_the_figures_of_one_run() -> None:
    assert ratios(row("aurexd", 12, 30), row("send_loop", 10, 20), "us_per_message") == [1.2, 1.5]
    assert Spread.of([1.2, 1.5, 1.3]) == Spread(1.3, 1.2, 1.5)
    assert Spread.of([]) is None


def test_the_table_has_a_ratio_to_the_first_that_was_measured() -> None:
    absent = Row("fan-out", "1,000 plain", "nchan", problems=["not measured: needs nginx"])
    text = told([absent, row("send_loop", 10, 10), row("aurexd", 12, 14)])
    assert "| 1,000 plain | send_loop | 10.00 | 1.00 |" in text
    assert "|  | aurexd | 13.00 (12.00 to 14.00) | 1.30 (1.20 to 1.40) |" in text
    assert "nchan: not measured: needs nginx" in text
