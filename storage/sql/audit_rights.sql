-- Promises about rights: what a day's counters, a ticket's place and a re-entry say, recomputed from what happened.

-- name: days_count_their_uses
-- Uses of a right on the business day that its counters are of, less what was reversed.
select format('entitlement %s on %s: %s used, %s redemptions', e.entitlement, e.day, e.used_day, count(p.seq))
  from entitlements e
  join sites s on s.site = $1
  left join (redemptions r
             join passages p on p.site = $1 and p.device = r.device and p.boot = r.boot and p.direction = r.direction
                            and p.seq = r.seq)
    on r.site = $1 and r.entitlement = e.entitlement
   and ((coalesce(p.seen_at, least(p.device_at, p.booked_at)) at time zone s.timezone)
        - s.business_day_start::interval)::date = e.day
   and not exists (select from reversals v where v.site = $1 and v.device = r.device and v.boot = r.boot
                      and v.direction = r.direction and v.seq = r.seq)
 where e.site = $1 and e.day is not null
 group by e.entitlement, e.day, e.used_day
having e.used_day <> count(p.seq)
 order by 1

-- name: reentries_count_their_passages
-- Who came back is counted once, on its day; who holds a grant to come back is counted as long as it is open.
select format('entitlement %s on %s: %s came back, %s passages', e.entitlement, e.day, e.reentries_day, count(p.seq))
  from entitlements e
  join sites s on s.site = $1
  left join (grants g join passages p on p.site = $1 and p.grant_id = g.grant_id)
    on g.site = $1 and g.entitlement = e.entitlement and g.kind = 'reentry'
   and ((coalesce(p.seen_at, least(p.device_at, p.booked_at)) at time zone s.timezone)
        - s.business_day_start::interval)::date = e.day
 where e.site = $1 and e.day is not null
 group by e.entitlement, e.day, e.reentries_day
having e.reentries_day <> count(p.seq)
union all
select format('entitlement %s: %s held to come back, holds %s', e.entitlement, e.reentries_held,
              coalesce(sum(h.pax - h.passed), 0))
  from entitlements e
  left join (grants g join holds h on h.site = $1 and h.grant_id = g.grant_id)
    on g.site = $1 and g.entitlement = e.entitlement and g.kind = 'reentry'
 where e.site = $1
 group by e.entitlement, e.reentries_held
having e.reentries_held <> coalesce(sum(h.pax - h.passed), 0)
 order by 1

-- name: nobody_returns_who_was_not_in
-- A re-entry comes after an entry on the same right.
select format('grant %s to come back on entitlement %s: nobody has entered on it before', g.grant_id, g.entitlement)
  from grants g
 where g.site = $1 and g.kind = 'reentry'
   and not exists (select from grants f join passages p on p.site = $1 and p.grant_id = f.grant_id
                    where f.site = $1 and f.entitlement = g.entitlement and f.kind = 'entry'
                      and p.ledger_seq < g.ledger_seq)
 order by 1

-- name: tickets_are_where_they_were_seen
-- The person of a ticket is where the latest scan's passage led, by the time of the scan.
select format('ticket %s: in %s since %s, last seen going to %s at %s', t.ticket, t.at_zone, t.at_since, last.zones,
              last.at)
  from tickets t
  left join lateral (
       select array_agg(seen.to_zone) as zones, seen.at
         from (select p.to_zone, coalesce(p.seen_at, least(p.device_at, p.booked_at)) as at
                 from grants g join passages p on p.site = $1 and p.grant_id = g.grant_id
                where g.site = $1 and g.ticket = t.ticket) seen
        group by seen.at order by seen.at desc limit 1) last on true
 where t.site = $1
   and (t.at_zone is not null or last.at is not null)
   and (t.at_since is distinct from last.at or not t.at_zone = any (last.zones))
   and not (t.at_zone is null and exists (select from reversals v join entitlements e
                                              on e.site = $1 and e.entitlement = v.entitlement
                                           where v.site = $1 and e.ticket = t.ticket))
 order by 1

-- name: exits_use_nothing
-- Whoever leaves, or comes back, uses nothing up; and whoever leaves goes where no ticket is asked for.
select format('grant %s (%s) on entitlement %s: %s redemptions', g.grant_id, g.kind, g.entitlement, count(*))
  from grants g join redemptions r on r.site = $1 and r.grant_id = g.grant_id
 where g.site = $1 and g.kind <> 'entry'
 group by g.grant_id, g.kind, g.entitlement
 order by 1

-- name: a_day_allows_its_uses
-- Uses of one business day, against what the product's rules allow.
select format('entitlement %s on %s: %s used, %s a day allowed', e.entitlement, e.day, e.used_day,
              (p.rules -> 'rights' -> e.rule ->> 'uses_per_day')::int * p.pax)
  from entitlements e
  join tickets t on t.site = $1 and t.ticket = e.ticket
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
 where e.site = $1 and (p.rules -> 'rights' -> e.rule ->> 'uses_per_day')::int > 0
   and e.used_day > (p.rules -> 'rights' -> e.rule ->> 'uses_per_day')::int * p.pax
 order by 1
