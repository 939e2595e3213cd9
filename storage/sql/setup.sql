-- name: upsert_site
insert into sites (site, name, timezone, business_day_start) values ($1, $2, $3, $4)
on conflict (site) do update
   set name = excluded.name, timezone = excluded.timezone, business_day_start = excluded.business_day_start

-- name: upsert_zones
insert into zones (site, zone, name, limit_people, stop_at, resume_at, sale_stop_at, sale_resume_at, day_limit,
                   reentry_when_stopped, staff_counts)
select $1, new.*
  from unnest($2::text[], $3::text[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::bool[],
              $11::bool[]) as new
on conflict (site, zone) do update
   set name = excluded.name, limit_people = excluded.limit_people, stop_at = excluded.stop_at,
       resume_at = excluded.resume_at, sale_stop_at = excluded.sale_stop_at, sale_resume_at = excluded.sale_resume_at,
       day_limit = excluded.day_limit, reentry_when_stopped = excluded.reentry_when_stopped,
       staff_counts = excluded.staff_counts

-- name: last_close
select max(day) from day_closes where site = $1

-- name: products
-- Every version: sold tickets keep theirs.
select product, version, name_zh, name_en, product_class, price_cents, pax, rules,
       coalesce(effective_from::text, '') as effective_from, extract(epoch from since)::float8 as since
  from products where site = $1 order by product, version

-- name: insert_product
insert into products (site, product, version, name_zh, name_en, product_class, price_cents, pax, rules, effective_from,
                      zones)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, nullif($10::text, '')::date, $11)

-- name: ledger_seq
select greatest((select max(ledger_seq) from grants where site = $1),
                (select max(ledger_seq) from passages where site = $1),
                (select max(ledger_seq) from grant_ends where site = $1),
                (select max(ledger_seq) from calibrations where site = $1), 0) as ledger_seq

-- name: audit_head
select seq, hash from audit_log where site = $1 order by seq desc limit 1

-- name: lock
-- One writer per site: held until this session ends, so an earlier session of ours has ended when we have it.
select pg_try_advisory_lock(hashtextextended('paifang ledger ' || $1, 0)) as locked

-- name: terminate
select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2

-- name: me
select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()

-- name: durability
select current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit

-- name: begin_marks
insert into ledger_marks (site, batch) values ($1, 0) on conflict (site) do nothing

-- name: mark
-- Part of every batch that writes.
update ledger_marks set batch = $2 where site = $1

-- name: outcome
-- Asked by the next writer, so that whoever was to commit the batch has ended.
select exists (select from ledger_marks where site = $1 and batch = $2) as committed

-- name: planner_knows
-- Do the server's statistics know the tables to be large?
select reltuples >= $1::int from pg_class where oid = 'grants'::regclass
