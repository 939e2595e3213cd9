-- The last batch that was committed: when a connection is lost at COMMIT, the next one looks here what became of it.
-- PostgreSQL's own transaction ids cannot say: those of transactions that a crash has undone are given out again.
create table ledger_marks (
    site   text primary key references sites,
    batch  bigint not null
);
