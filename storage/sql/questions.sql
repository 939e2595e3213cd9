-- name: open_grants
select g.grant_id, g.nonce, g.ticket, h.pax, h.passed, extract(epoch from g.granted_at)::float8 as granted_at, g.ttl_s,
       g.counter_epoch, g.counter_entries, g.counter_exits
  from holds h join grants g on g.site = $1 and g.grant_id = h.grant_id
 where h.site = $1 and h.lane = $2
 order by g.ledger_seq

-- name: latest_epoch
-- The epoch in which a board counted last, as far as was booked.
select epoch from counter_baselines where site = $1 and device = $2 order by booked_at desc limit 1

-- name: lane_counters
-- The highest counters booked in an epoch, by a passage or as its baseline.
select greatest((select max(seq) from passages
                  where site = $1 and device = $2 and boot = $3 and direction = 'entry'), b.entries) as entries,
       greatest((select max(seq) from passages
                  where site = $1 and device = $2 and boot = $3 and direction = 'exit'), b.exits) as exits
  from (select) as one
  left join counter_baselines b on b.site = $1 and b.device = $2 and b.epoch = $3

-- name: lane_today
select count(*) filter (where direction = 'entry') as entries, count(*) filter (where direction = 'exit') as exits
  from passages where site = $1 and lane = $2 and booked_at >= to_timestamp($3)

-- name: template
select t.ticket, t.product, t.version, pass.template_enc, coalesce(pass.template_algorithm, '') as algorithm,
       exists (select from entitlements e
                where e.site = $1 and e.ticket = t.ticket and e.redeemed + e.held > 0) as used
  from credentials c
  join tickets t on t.site = $1 and t.ticket = c.ticket
  left join passes pass on pass.site = $1 and pass.ticket = t.ticket
 where c.site = $1 and c.kind = $3 and c.value_hash = $2
 order by t.ticket limit 1

-- name: print_jobs
select job, order_id, ticket, printer, state, detail
  from print_jobs
 where site = $1 and ($2::bigint is null and state <> 'done' or order_id = $2)
 order by job

-- name: tickets_by_id
select t.ticket, t.pax, t.product, p.name_zh, p.name_en, p.product_class, p.zones, l.unit_price_cents,
       extract(epoch from t.valid_from)::float8 as valid_from, extract(epoch from t.valid_to)::float8 as valid_to,
       extract(epoch from t.slot_from)::float8 as slot_from, extract(epoch from t.slot_to)::float8 as slot_to, t.state,
       j.job
  from tickets t
  join order_lines l on l.site = $1 and l.order_id = t.order_id and l.line = t.line
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
  left join print_jobs j on j.site = $1 and j.ticket = t.ticket
 where t.site = $1 and (t.ticket = any ($2::bigint[]) or t.order_id = $3)
 order by t.order_id, t.line, t.number

-- name: entries
-- Each entry is one of four: on a right for the first time, coming back, staff's, or on no right at all.
select zone, day::text as day, count(*) filter (where what = 'first')::int as first,
       count(*) filter (where what = 'reentry')::int as reentries, count(*) filter (where what = 'staff')::int as staff,
       count(*) filter (where what = 'free')::int as free, count(*)::int as total
  from (select p.to_zone as zone,
               ((coalesce(p.seen_at, least(p.device_at, p.booked_at)) at time zone s.timezone)
                - s.business_day_start::interval)::date as day,
               case when p.kind = 'staff' or g.product_class in ('staff', 'contractor') then 'staff'
                    when g.grant_id is null then 'free'
                    when g.kind = 'reentry' then 'reentry'
                    else 'first' end as what
          from passages p
          join sites s on s.site = $1
          left join grants g on g.site = $1 and g.grant_id = p.grant_id
         where p.site = $1 and p.direction = 'entry'
           and p.booked_at >= (($2::date - 1) + s.business_day_start) at time zone s.timezone) entered
 where day between $2::date and $3::date
 group by zone, day
 order by day, zone
