"""The tables as they stand: keyed by site first, and nothing that happened can be changed."""

from __future__ import annotations

import pytest

from storage.testing import fetch, fresh_database, run_sql

LOGS = (
    "audit_log", "grant_ends", "grants", "incident_notes", "order_lines", "orders", "passages", "payments",
    "products", "redemptions", "scans",
    # of the office
    "card_events", "code_batches", "code_exports", "code_moves", "collections", "office_commands", "payment_notices",
    "personal_places", "refund_credentials", "refund_rights", "refund_steps", "refund_tenders", "refunds", "reversals",
    "ticket_holds", "transfers",
    # of lanes that decided alone
    "offline_conflicts", "offline_grants",
)  # fmt: skip


async def test_every_key_and_index_begins_with_the_site() -> None:
    async with fresh_database() as database:
        rows = await fetch(
            database.dsn,
            """select i.indrelid::regclass::text as name, a.attname
                 from pg_index i join pg_class t on t.oid = i.indrelid
                 join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                where t.relnamespace = 'public'::regnamespace and t.relname <> 'migrations'""",
        )
        tables = await fetch(
            database.dsn, "select tablename from pg_tables where schemaname = 'public' and tablename <> 'migrations'"
        )
    assert {row["name"] for row in rows} == {row["tablename"] for row in tables}
    assert [row["name"] for row in rows if row["attname"] != "site"] == []


@pytest.mark.parametrize("table", LOGS)
async def test_nobody_empties_a_table_of_what_happened(table: str) -> None:
    async with fresh_database() as database:
        with pytest.raises(Exception, match=f"{table} is append-only"):
            await run_sql(database.dsn, f"truncate {table} cascade")


async def test_every_append_only_table_refuses_change_and_deletion() -> None:
    async with fresh_database() as database:
        rows = await fetch(
            database.dsn,
            """select tgrelid::regclass::text as name, pg_get_triggerdef(oid) as text from pg_trigger
                where tgname = 'append_only' and tgenabled = 'O'""",
        )
    others = {"abandoned_scans", "calibrations", "case_notes", "counter_baselines", "day_closes", "zone_stops"}
    assert {row["name"] for row in rows} == {*LOGS, *others}
    assert all("BEFORE DELETE OR UPDATE" in row["text"] for row in rows)
