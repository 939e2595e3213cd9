-- name: load
-- All that a batch touches, in one round trip; each kind of row is an array of records, null without any.
--   grants       known ones by id, by (device, nonce) or by (lane, nonce), open or over
--   abandoned    the scans that their lane has given up
--   passages     those that are booked already
--   credentials  presented ones, with the ticket that they lead to
--   tickets      those that presented credentials and known grants lead to
--   rights       all of these tickets
--   mains        products used today beside those that need a main ticket
--   preprinted   codes that were printed before they were sold
--   zones        all
-- Half of what a small batch costs is making the plan ready, so what it does not ask for is left out of it: the lines
-- from `--[word` to `--]` are in the statement only where `word` is wanted, with `not word` only where it is not
-- (`storage._asked`).
-- Zones are locked: whoever corrects counts by hand makes us wait. Rights are not: there is one writer, they are changed
-- by differences, and a constraint keeps their sum; a lock would be another write for each.
with named as (
    select unnest($2::bigint[]) as grant_id
    --[scans
    union
    select g.grant_id
      from unnest($3::text[], $4::text[]) as w (device, nonce)
      join grants g on g.site = $1 and g.device = w.device and g.nonce = w.nonce
    --]
    --[nonces
    union
    select g.grant_id
      from unnest($5::text[], $6::text[]) as w (lane, nonce)
      join grants g on g.site = $1 and g.lane = w.lane and g.nonce = w.nonce
    --]
), known as materialized (
    select g.grant_id, g.lane, g.device, g.nonce, g.ticket, g.entitlement, g.product_class, g.to_zone, g.pax,
           g.remaining, g.ttl_s, extract(epoch from g.granted_at)::float8 as granted_at,
           h.grant_id is not null as open,
           (select count(*) from passages p where p.site = $1 and p.grant_id = g.grant_id) as passed, e.why, g.kind,
           g.credential
      from named
      join grants g on g.site = $1 and g.grant_id = named.grant_id
      left join holds h on h.site = $1 and h.grant_id = g.grant_id
      left join grant_ends e on e.site = $1 and e.grant_id = g.grant_id
--[scans
), presented as materialized (
    select c.kind, c.value_hash, c.credential, c.ticket, c.state, c.issue_index, c.personal
      from unnest($13::text[], $14::bytea[]) as w (kind, value_hash)
      join credentials c on c.site = $1 and c.kind = w.kind and c.value_hash = w.value_hash
--]
), meant as materialized (
    select ticket from known
    --[scans
    union
    select ticket from presented
    --]
    --[not scans
    group by ticket
    --]
), tickets_meant as (
    select t.ticket, t.product, t.version, t.state, extract(epoch from t.valid_from)::float8 as valid_from,
           extract(epoch from t.valid_to)::float8 as valid_to, extract(epoch from t.slot_from)::float8 as slot_from,
           extract(epoch from t.slot_to)::float8 as slot_to, t.holder_hash, t.at_zone,
           extract(epoch from t.at_since)::float8 as at_since
           --[faces
           , case when t.product = any ($17::text[])
                  then exists (select from passes p
                                where p.site = $1 and p.ticket = t.ticket and p.template_enc is not null)
                  else false end as face_bound
           --]
      from meant join tickets t on t.site = $1 and t.ticket = meant.ticket
), rights as (
    select e.entitlement, e.ticket, e.rule, e.zone, e.sold, e.redeemed, e.held, e.refunded, e.reserved_refund,
           extract(epoch from e.last_used_at)::float8 as last_used_at, e.last_used_lane,
           extract(epoch from e.first_used_at)::float8 as first_used_at,
           extract(epoch from e.last_exit_at)::float8 as last_exit_at,
           e.day, e.used_day, e.reentries_day, e.out_day, e.reentries_held, e.set_aside
      from meant join entitlements e on e.site = $1 and e.ticket = meant.ticket
--[mains
), small as materialized (
    select t.ticket, t.order_id, t.holder_hash
      from tickets_meant meant join tickets t on t.site = $1 and t.ticket = meant.ticket
     where meant.product = any ($15::text[])
), mains as materialized (
    -- What was used today by the same order, or by the same person on a ticket of another one. Each of the limits keeps
    -- the planner from beginning at the other end, with all that was used today.
    select distinct small.ticket, main.product
      from small
     cross join lateral (
            select m.ticket, m.product from tickets m where m.site = $1 and m.order_id = small.order_id
            union
            select m.ticket, m.product from tickets m where m.site = $1 and m.holder_hash = small.holder_hash
            union
            select m.ticket, m.product
              from credentials mine
              join credentials c on c.site = $1 and c.kind = 'id_number' and c.value_hash = mine.value_hash
              join tickets m on m.site = $1 and m.ticket = c.ticket
             where mine.site = $1 and mine.ticket = small.ticket and mine.kind = 'id_number'
            limit 10000) main
     cross join lateral (
            select from entitlements e
             where e.site = $1 and e.ticket = main.ticket and e.day = $16::date and e.used_day > 0 limit 1) used
     where main.ticket <> small.ticket
--]
--[zones
), places as (
    select zone, limit_people, inside, held, stop_at, resume_at, sale_stop_at, sale_resume_at, day_limit,
           reentry_when_stopped, staff_counts, entry_full, sale_full, staff, day::text, entered,
           extract(epoch from entry_stopped_until)::float8 as entry_until,
           extract(epoch from sale_stopped_until)::float8 as sale_until,
           extract(epoch from one_for_one_until)::float8 as one_until
      from zones where site = $1 order by zone for update
--]
)
select (select array_agg(known) from known) as grants,
       --[scans
       (select array_agg(row (a.lane, a.nonce))
          from unnest($7::text[], $8::text[]) as w (lane, nonce)
          join abandoned_scans a on a.site = $1 and a.lane = w.lane and a.nonce = w.nonce) as abandoned,
       (select array_agg(presented) from presented) as credentials,
       (select array_agg(row (pp.ticket, pp.state))
          from unnest($18::bigint[]) as w (ticket)
          join preprinted pp on pp.site = $1 and pp.ticket = w.ticket) as preprinted,
       --]
       --[passages
       (select array_agg(row (p.device, p.boot, p.direction, p.seq, p.kind))
          from unnest($9::text[], $10::text[], $11::text[], $12::bigint[]) as w (device, boot, direction, seq)
          join passages p on p.site = $1 and p.device = w.device and p.boot = w.boot and p.direction = w.direction
                         and p.seq = w.seq) as passages,
       --]
       --[mains
       (select array_agg(mains) from mains) as mains,
       --]
       --[zones
       (select array_agg(places) from places) as zones,
       --]
       (select array_agg(tickets_meant) from tickets_meant) as tickets,
       (select array_agg(rights) from rights) as rights

-- name: people
-- What single people of a list have used, by their credentials.
select credential, entitlement, redeemed, held
  from personal_uses where site = $1 and credential = any ($2::bigint[])

-- name: set_aside_used
-- How many of those for whom places of these rights are set aside have come or hold a grant.
select entitlement, sum(redeemed + held)::int as used
  from personal_uses where site = $1 and entitlement = any ($2::bigint[])
 group by entitlement

-- name: zones
-- As `load` has them.
select zone, limit_people, inside, held, stop_at, resume_at, sale_stop_at, sale_resume_at, day_limit,
       reentry_when_stopped, staff_counts, entry_full, sale_full, staff, day::text, entered,
       extract(epoch from entry_stopped_until)::float8, extract(epoch from sale_stopped_until)::float8,
       extract(epoch from one_for_one_until)::float8
  from zones where site = $1 order by zone

-- name: expired_holds
select h.grant_id, h.lane, g.ticket, extract(epoch from h.expires_at)::float8 as expires_at
  from holds h join grants g on g.site = $1 and g.grant_id = h.grant_id
 where h.site = $1 and not h.unresolved and h.expires_at < to_timestamp($2)
 order by h.grant_id

-- name: insert_grants
insert into grants (site, grant_id, ledger_seq, lane, device, nonce, ticket, entitlement, product_class, from_zone,
                    to_zone, pax, remaining, ttl_s, zone_limit, device_at, granted_at, counter_epoch, counter_entries,
                    counter_exits, kind, credential)
select $1, grant_id, ledger_seq, lane, device, nonce, ticket, entitlement, product_class, from_zone, to_zone, pax,
       remaining, ttl_s, zone_limit, to_timestamp(device_at), to_timestamp(granted_at), counter_epoch, counter_entries,
       counter_exits, kind, credential
  from unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::text[],
              $10::text[], $11::text[], $12::int[], $13::int[], $14::float8[], $15::int[], $16::float8[],
              $17::float8[], $18::text[], $19::bigint[], $20::bigint[], $21::text[], $22::bigint[])
       as new (grant_id, ledger_seq, lane, device, nonce, ticket, entitlement, product_class, from_zone, to_zone, pax,
               remaining, ttl_s, zone_limit, device_at, granted_at, counter_epoch, counter_entries, counter_exits, kind,
               credential)

-- name: insert_holds
insert into holds (site, grant_id, lane, pax, passed, expires_at)
select $1, grant_id, lane, pax, passed, to_timestamp(expires_at)
  from unnest($2::bigint[], $3::text[], $4::int[], $5::int[], $6::float8[])
       as new (grant_id, lane, pax, passed, expires_at)

-- name: update_holds
update holds h set passed = changed.passed
  from unnest($2::bigint[], $3::int[]) as changed (grant_id, passed)
 where h.site = $1 and h.grant_id = changed.grant_id

-- name: mark_unresolved
update holds set unresolved = true where site = $1 and grant_id = any ($2::bigint[])

-- name: delete_holds
delete from holds where site = $1 and grant_id = any ($2::bigint[])

-- name: insert_ends
insert into grant_ends (site, grant_id, ledger_seq, lane, passed, said, why, device_at, booked_at)
select $1, grant_id, ledger_seq, lane, passed, said, why, to_timestamp(device_at), to_timestamp(booked_at)
  from unnest($2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::text[], $8::float8[], $9::float8[])
       as new (grant_id, ledger_seq, lane, passed, said, why, device_at, booked_at)

-- name: insert_abandoned
insert into abandoned_scans (site, lane, nonce, device, why, booked_at)
select $1, lane, nonce, device, why, to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::float8[])
       as new (lane, nonce, device, why, booked_at)

-- name: insert_passages
insert into passages (site, device, boot, direction, seq, ledger_seq, lane, kind, grant_id, from_zone, to_zone,
                      device_at, booked_at, seen_at)
select $1, device, boot, direction, seq, ledger_seq, lane, kind, grant_id, from_zone, to_zone, to_timestamp(device_at),
       to_timestamp(booked_at), to_timestamp(seen_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::bigint[],
              $10::text[], $11::text[], $12::float8[], $13::float8[], $14::float8[])
       as new (device, boot, direction, seq, ledger_seq, lane, kind, grant_id, from_zone, to_zone, device_at,
               booked_at, seen_at)

-- name: insert_redemptions
insert into redemptions (site, device, boot, direction, seq, entitlement, grant_id, booked_at)
select $1, device, boot, direction, seq, entitlement, grant_id, to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::float8[])
       as new (device, boot, direction, seq, entitlement, grant_id, booked_at)

-- name: update_entitlements
update entitlements e
   set redeemed = e.redeemed + moved.redeemed,
       held = e.held + moved.held,
       reentries_held = e.reentries_held + moved.reentries_held,
       last_used_at = to_timestamp(moved.last_used_at),
       last_used_lane = moved.last_used_lane,
       first_used_at = to_timestamp(moved.first_used_at),
       last_exit_at = to_timestamp(moved.last_exit_at),
       day = moved.day,
       used_day = moved.used_day,
       reentries_day = moved.reentries_day,
       out_day = moved.out_day
  from unnest($2::bigint[], $3::int[], $4::int[], $5::int[], $6::float8[], $7::text[], $8::float8[], $9::float8[],
              $10::date[], $11::int[], $12::int[], $13::int[])
       as moved (entitlement, redeemed, held, reentries_held, last_used_at, last_used_lane, first_used_at, last_exit_at,
                 day, used_day, reentries_day, out_day)
 where e.site = $1 and e.entitlement = moved.entitlement

-- name: update_tickets
update tickets t
   set holder_hash = coalesce(moved.holder_hash, t.holder_hash), holder_enc = coalesce(moved.holder_enc, t.holder_enc),
       at_zone = moved.at_zone, at_since = to_timestamp(moved.at_since)
  from unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::float8[])
       as moved (ticket, holder_hash, holder_enc, at_zone, at_since)
 where t.site = $1 and t.ticket = moved.ticket

-- name: put_people
insert into personal_uses (site, credential, entitlement, redeemed, held)
select $1, credential, entitlement, redeemed, held
  from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[]) as new (credential, entitlement, redeemed, held)
on conflict (site, credential, entitlement) do update set redeemed = excluded.redeemed, held = excluded.held

-- name: bind_faces
insert into passes (site, ticket, template_enc, template_algorithm, enrolled_at)
select $1, ticket, template_enc, algorithm, to_timestamp(at)
  from unnest($2::bigint[], $3::bytea[], $4::text[], $5::float8[]) as new (ticket, template_enc, algorithm, at)
on conflict (site, ticket) do update
   set template_enc = excluded.template_enc, template_algorithm = excluded.template_algorithm,
       enrolled_at = excluded.enrolled_at

-- name: raise_issue
update credentials c set issue_index = greatest(c.issue_index, new.issue_index)
  from unnest($2::bigint[], $3::int[]) as new (credential, issue_index)
 where c.site = $1 and c.credential = new.credential

-- name: insert_short
insert into credentials (site, credential, ticket, kind, value_hash)
select $1, credential, ticket, 'short', value_hash
  from unnest($2::bigint[], $3::bigint[], $4::bytea[]) as new (credential, ticket, value_hash)

-- name: update_zones
update zones z
   set inside = z.inside + moved.inside, held = z.held + moved.held, staff = z.staff + moved.staff,
       entry_full = moved.entry_full, sale_full = moved.sale_full, day = moved.day::date, entered = moved.entered,
       entry_stopped_until = to_timestamp(moved.entry_until), sale_stopped_until = to_timestamp(moved.sale_until),
       one_for_one_until = to_timestamp(moved.one_until)
  from unnest($2::text[], $3::int[], $4::int[], $5::int[], $6::bool[], $7::bool[], $8::text[], $9::int[], $10::float8[],
              $11::float8[], $12::float8[])
       as moved (zone, inside, held, staff, entry_full, sale_full, day, entered, entry_until, sale_until, one_until)
 where z.site = $1 and z.zone = moved.zone

-- name: calibrated
select key from calibrations where site = $1 and key = any ($2::text[])

-- name: insert_zone_stops
insert into zone_stops (site, stop, zone, what, until, user_name, reason, booked_at)
select $1, stop, zone, what, to_timestamp(until), user_name, reason, to_timestamp(booked_at)
  from unnest($2::bigint[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::text[], $8::float8[])
       as new (stop, zone, what, until, user_name, reason, booked_at)

-- name: insert_day_closes
insert into day_closes (site, day, residual, booked_at)
select $1, day::date, residual, to_timestamp(booked_at)
  from unnest($2::text[], $3::int[], $4::float8[]) as new (day, residual, booked_at)
on conflict (site, day) do nothing

-- name: insert_scans
insert into scans (site, lane, device, nonce, kind, credential_hash, code, grant_id, device_at, booked_at)
select $1, lane, device, nonce, kind, credential_hash, code, grant_id, to_timestamp(device_at),
       to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::bigint[], $9::float8[],
              $10::float8[])
       as new (lane, device, nonce, kind, credential_hash, code, grant_id, device_at, booked_at)

-- name: insert_calibrations
insert into calibrations (site, calibration, ledger_seq, zone, delta, staff, reason, user_name, key, booked_at)
select $1, calibration, ledger_seq, zone, delta, staff, reason, user_name, key, to_timestamp(booked_at)
  from unnest($2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::text[], $8::text[], $9::text[],
              $10::float8[])
       as new (calibration, ledger_seq, zone, delta, staff, reason, user_name, key, booked_at)

-- name: insert_baselines
insert into counter_baselines (site, device, epoch, lane, entries, exits, booked_at)
select $1, device, epoch, lane, entries, exits, to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::float8[])
       as new (device, epoch, lane, entries, exits, booked_at)
on conflict (site, device, epoch) do nothing
