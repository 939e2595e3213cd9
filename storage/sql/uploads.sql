-- Journals of lanes that decided alone. $1 is the site.

-- name: known
-- How far journals are ($2 devices, $3 journals), and what was granted alone before ($4 devices, $5 nonces).
select (select array_agg(row (m.device, m.journal, m.upto))
          from unnest($2::text[], $3::text[]) as w (device, journal)
          join upload_marks m on m.site = $1 and m.device = w.device and m.journal = w.journal) as marks,
       (select array_agg(row (o.device, o.nonce, o.outcome, o.code, coalesce(o.ticket, 0),
                              extract(epoch from o.scan_at)::float8))
          from unnest($4::text[], $5::text[]) as w (device, nonce)
          join offline_grants o on o.site = $1 and o.device = w.device and o.nonce = w.nonce) as grants

-- name: uses_on
-- How often rights ($2) were used between $3 and $4, where their counters are of a later day.
select r.entitlement, count(*) as uses
  from redemptions r
  join passages p on p.site = $1 and p.device = r.device and p.boot = r.boot and p.direction = r.direction
                 and p.seq = r.seq
 where r.site = $1 and r.entitlement = any ($2::bigint[])
   and coalesce(p.seen_at, p.device_at) >= to_timestamp($3) and coalesce(p.seen_at, p.device_at) < to_timestamp($4)
   and not exists (select from reversals v where v.site = $1 and v.device = r.device and v.boot = r.boot
                      and v.direction = r.direction and v.seq = r.seq)
 group by r.entitlement

-- name: since
-- Since when cards ($2) are lost or frozen, and tickets ($3) held.
select 'c' as what, e.credential as number, extract(epoch from max(e.booked_at))::float8 as since
  from card_events e where e.site = $1 and e.credential = any ($2::bigint[]) group by e.credential
union all
select 't', h.ticket, extract(epoch from max(h.booked_at))::float8
  from ticket_holds h where h.site = $1 and h.ticket = any ($3::bigint[]) group by h.ticket

-- name: put_marks
insert into upload_marks (site, device, journal, lane, upto, booked_at)
select $1, device, journal, lane, upto, to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::float8[])
       as new (device, journal, lane, upto, booked_at)
on conflict (site, device, journal) do update
   set upto = excluded.upto, lane = excluded.lane, booked_at = excluded.booked_at

-- name: insert_offline
insert into offline_grants (site, device, journal, seq, lane, nonce, kind, credential_hash, direction, pax, ticket, code,
                            outcome, grant_id, why, list_version, device_at, scan_at, booked_at)
select $1, device, journal, seq, lane, nonce, kind, credential_hash, direction, pax, ticket, code, outcome, grant_id,
       why, list_version, to_timestamp(device_at), to_timestamp(scan_at), to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::text[],
              $10::int[], $11::bigint[], $12::text[], $13::text[], $14::bigint[], $15::text[], $16::bigint[],
              $17::float8[], $18::float8[], $19::float8[])
       as new (device, journal, seq, lane, nonce, kind, credential_hash, direction, pax, ticket, code, outcome,
               grant_id, why, list_version, device_at, scan_at, booked_at)

-- name: insert_conflicts
insert into offline_conflicts (site, device, boot, direction, seq, lane, nonce, ticket, code, seen_at, other_lane,
                               other_at, booked_at)
select $1, device, boot, direction, seq, lane, nonce, ticket, code, to_timestamp(seen_at), other_lane,
       to_timestamp(other_at), to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::text[],
              $10::float8[], $11::text[], $12::float8[], $13::float8[])
       as new (device, boot, direction, seq, lane, nonce, ticket, code, seen_at, other_lane, other_at, booked_at)
