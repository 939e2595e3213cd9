"""PostgreSQL: what happened at the gates and at the windows, on disk before anybody is told.

Imports `core`, `protocols`, trio, trio-asyncio and asyncpg; the only package that knows asyncio.  The domain imports
`storage.interfaces` alone.  See docs/storage.md.

    interfaces      operations, questions and facts: what the domain knows of storage
    connection      where a database is, and how to talk to it
    embedded        our own launcher for the PostgreSQL of a wheel
    migrate         numbered migrations, applied once, with checksums
    queries         named SQL from storage/sql
    ledger          the group-commit writer, an actor
    audit           the invariants, checked on live data
    backup          one file out, one file in
    testing         clusters, databases and running ledgers for tests
"""
