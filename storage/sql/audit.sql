-- Each query is a promise by name, and returns one line of text per row that breaks it. $1 is the site.
-- They recompute from the append-only tables; nothing is taken from a counter's word.

-- name: site_is_known
select 'there is no site ' || $1 where not exists (select from sites where site = $1)

-- name: never_more_used_than_sold
select format('entitlement %s: %s redeemed, %s held, %s refunded, %s reserved of %s sold', entitlement, redeemed, held,
              refunded, reserved_refund, sold)
  from entitlements
 where site = $1 and (redeemed + held + refunded + reserved_refund > sold
                      or least(redeemed, held, refunded, reserved_refund) < 0)
 order by entitlement

-- name: redeemed_counters_match_redemptions
select format('entitlement %s: counter %s, redemptions less reversals %s', e.entitlement, e.redeemed,
              coalesce(r.pax, 0))
  from entitlements e
  left join (select entitlement, sum(pax) as pax
               from (select entitlement, pax from redemptions where site = $1
                     union all select entitlement, -1 from reversals where site = $1) uses
              group by entitlement) r using (entitlement)
 where e.site = $1 and e.redeemed <> coalesce(r.pax, 0)
 order by 1

-- name: held_counters_match_holds
select format('entitlement %s: counter %s, holds %s', e.entitlement, e.held, coalesce(h.pax, 0))
  from entitlements e
  left join (select g.entitlement, sum(h.pax - h.passed) as pax
               from holds h join grants g on g.site = $1 and g.grant_id = h.grant_id
              where h.site = $1 and g.kind = 'entry' group by g.entitlement) h using (entitlement)
 where e.site = $1 and e.held <> coalesce(h.pax, 0)
 order by 1

-- name: single_use_admits_one_person
-- Invariant 3, from the passages themselves: no ticket for one person has let two in.
select format('ticket %s for one person: %s people', t.ticket, count(*))
  from tickets t
  join entitlements e on e.site = $1 and e.ticket = t.ticket and e.sold = 1
  join grants g on g.site = $1 and g.entitlement = e.entitlement and g.kind = 'entry'
  join passages p on p.site = $1 and p.grant_id = g.grant_id
 where t.site = $1
   and (p.kind = 'granted' or exists (select from redemptions r where r.site = $1 and r.device = p.device
                                         and r.boot = p.boot and r.direction = p.direction and r.seq = p.seq))
   and not exists (select from reversals v where v.site = $1 and v.device = p.device and v.boot = p.boot
                      and v.direction = p.direction and v.seq = p.seq)
 group by t.ticket, e.entitlement
having count(*) > 1
 order by 1

-- name: holds_are_the_open_grants
select format('grant %s: %s', coalesce(h.grant_id, g.grant_id),
              case when g.grant_id is null then 'a hold without an open grant'
                   when h.grant_id is null then 'open, and there is no hold'
                   else format('hold for %s on lane %s, granted for %s on lane %s', h.pax, h.lane, g.pax, g.lane) end)
  from (select grant_id, lane, pax from holds where site = $1) h
  full join (select grant_id, lane, pax from grants where site = $1
                and not exists (select from grant_ends e where e.site = $1 and e.grant_id = grants.grant_id)) g
         using (grant_id)
 where h.grant_id is null or g.grant_id is null or h.pax <> g.pax or h.lane <> g.lane
 order by 1

-- name: holds_count_their_passages
select format('grant %s: hold says %s passed, %s passages', h.grant_id, h.passed, count(p.grant_id))
  from holds h left join passages p on p.site = $1 and p.grant_id = h.grant_id
 where h.site = $1
 group by h.grant_id, h.passed
having h.passed <> count(p.grant_id)
 order by 1

-- name: ends_count_their_passages
select format('grant %s: ended with %s passed, %s passages before that', e.grant_id, e.passed, count(p.grant_id))
  from grant_ends e
  left join passages p on p.site = $1 and p.grant_id = e.grant_id and p.ledger_seq < e.ledger_seq
 where e.site = $1
 group by e.grant_id, e.passed
having e.passed <> count(p.grant_id)
 order by 1

-- name: grants_admit_no_more_than_their_pax
select format('grant %s for %s people: %s passages', g.grant_id, g.pax, count(*))
  from grants g join passages p on p.site = $1 and p.grant_id = g.grant_id
 where g.site = $1
 group by g.grant_id, g.pax
having count(*) > g.pax
 order by 1

-- name: granted_passages_have_their_grant
select format('passage %s/%s/%s/%s (%s): %s', p.device, p.boot, p.direction, p.seq, p.kind,
              case when p.grant_id is null then 'no grant'
                   when p.kind not in ('granted', 'late') then 'has a grant'
                   else format('grant %s does not exist', p.grant_id) end)
  from passages p left join grants g on g.site = $1 and g.grant_id = p.grant_id
 where p.site = $1 and (p.kind in ('granted', 'late')) <> (g.grant_id is not null)
 order by 1

-- name: late_means_after_the_end
select format('passage %s/%s/%s/%s of grant %s is booked as %s', p.device, p.boot, p.direction, p.seq, p.grant_id,
              p.kind)
  from passages p
  left join grant_ends e on e.site = $1 and e.grant_id = p.grant_id and e.ledger_seq < p.ledger_seq
 where p.site = $1 and p.kind in ('granted', 'late') and (p.kind = 'late') <> (e.grant_id is not null)
 order by 1

-- name: redemptions_match_passages
-- Invariant 4: every person on a grant used a right, once; a late one may have come after the right was used up.
select format('passage %s/%s/%s/%s of grant %s: no redemption', p.device, p.boot, p.direction, p.seq, p.grant_id)
  from passages p
  join grants g on g.site = $1 and g.grant_id = p.grant_id and g.kind = 'entry'
  left join redemptions r on r.site = $1 and r.device = p.device and r.boot = p.boot and r.direction = p.direction
                         and r.seq = p.seq
 where p.site = $1 and p.kind = 'granted' and r.site is null
union all
select format('redemption %s/%s/%s/%s: no passage of grant %s', r.device, r.boot, r.direction, r.seq, r.grant_id)
  from redemptions r left join passages p using (site, device, boot, direction, seq)
 where r.site = $1 and (p.site is null or p.grant_id is distinct from r.grant_id)
 order by 1

-- name: redemptions_use_the_right_granted
select format('redemption %s/%s/%s/%s: entitlement %s, grant %s is on %s', r.device, r.boot, r.direction, r.seq,
              r.entitlement, r.grant_id, g.entitlement)
  from redemptions r join grants g on g.site = $1 and g.grant_id = r.grant_id
 where r.site = $1 and (g.entitlement is distinct from r.entitlement or g.kind <> 'entry')
 order by 1

-- name: grants_fit_their_right
select format('grant %s to %s on entitlement %s of ticket %s into %s', g.grant_id, g.to_zone, g.entitlement, g.ticket,
              e.zone)
  from grants g
  left join entitlements e on e.site = $1 and e.entitlement = g.entitlement
  left join tickets t on t.site = $1 and t.ticket = e.ticket
  left join products p on p.site = $1 and p.product = t.product and p.version = t.version
 where g.site = $1 and g.kind <> 'exit'
   and (e.entitlement is null or e.ticket <> g.ticket or e.zone <> g.to_zone
        or e.zone is null and not p.rules -> 'rights' -> e.rule -> 'zones' ? g.to_zone)
 order by 1

-- name: grants_are_within_validity
select format('grant %s at %s: ticket %s is valid from %s to %s', g.grant_id, g.granted_at, t.ticket, t.valid_from,
              t.valid_to)
  from grants g join tickets t on t.site = $1 and t.ticket = g.ticket
 where g.site = $1 and g.kind <> 'exit' and (g.granted_at < t.valid_from or g.granted_at >= t.valid_to)
 order by 1

-- name: lanes_act_for_themselves
-- Invariant 28: what was granted at a lane is used and ended at that lane.
select format('grant %s of lane %s %s at lane %s', g.grant_id, g.lane, used.how, used.lane)
  from grants g
  join (select grant_id, lane, 'was used' as how from passages where site = $1 and grant_id is not null
        union all select grant_id, lane, 'was ended' from grant_ends where site = $1) used using (grant_id)
 where g.site = $1 and used.lane <> g.lane
 order by 1

-- name: abandoned_scans_open_nothing
select format('grant %s: lane %s had given up nonce %s', g.grant_id, g.lane, g.nonce)
  from grants g join abandoned_scans a on a.site = $1 and a.lane = g.lane and a.nonce = g.nonce
 where g.site = $1
 order by 1

-- name: every_grant_has_its_scan
select format('grant %s: %s scans', coalesce(g.grant_id, s.grant_id), coalesce(s.scans, 0))
  from (select grant_id from grants where site = $1) g
  full join (select grant_id, count(*) as scans from scans where site = $1 and grant_id is not null group by grant_id) s
         using (grant_id)
 where g.grant_id is null or s.scans is distinct from 1
 order by 1

-- name: irregular_passages_are_cases
-- Invariant 5, the other half: who passed without a right is looked at by somebody.
select format('passage %s/%s/%s/%s (%s): no case', p.device, p.boot, p.direction, p.seq, p.kind)
  from passages p
  left join grants g on g.site = $1 and g.grant_id = p.grant_id
 where p.site = $1
   and (p.kind in ('tailgate', 'forced', 'reverse')
        or p.kind = 'late' and g.kind = 'entry' and not exists (select from redemptions r where r.site = $1 and r.device = p.device
                                              and r.boot = p.boot and r.direction = p.direction and r.seq = p.seq))
   and not exists (select from cases c where c.site = $1
                      and c.key = concat_ws(':', case p.kind when 'late' then 'late_pass' else p.kind end, p.device,
                                            p.boot, p.direction, p.seq))
 order by 1

-- name: unresolved_grants_are_cases
select format('grant %s is unresolved: no case', h.grant_id)
  from holds h
 where h.site = $1 and h.unresolved
   and not exists (select from cases c where c.site = $1 and c.key = 'unresolved:' || h.grant_id)
 order by 1

-- name: events_are_in_one_order
-- ledger_seq: no two events share a place, and nothing happens to a grant before it is granted.
select format('place %s is taken %s times', ledger_seq, count(*))
  from (select ledger_seq from grants where site = $1 union all select ledger_seq from passages where site = $1
        union all select ledger_seq from grant_ends where site = $1
        union all select ledger_seq from calibrations where site = $1) events
 group by ledger_seq having count(*) > 1
union all
select format('grant %s at place %s, used or ended at %s', g.grant_id, g.ledger_seq, later.ledger_seq)
  from grants g
  join (select grant_id, ledger_seq from passages where site = $1 and grant_id is not null
        union all select grant_id, ledger_seq from grant_ends where site = $1) later using (grant_id)
 where g.site = $1 and later.ledger_seq < g.ledger_seq
 order by 1

-- name: zone_counts_match_movements
-- Invariant 8: in less out, and what people corrected.
select format('zone %s: count %s, movements %s', z.zone, z.inside, coalesce(sum(m.people), 0))
  from zones z
  left join (select to_zone as zone, 1 as people from passages where site = $1
             union all select from_zone, -1 from passages where site = $1
             union all select zone, delta from calibrations where site = $1
             union all select against, -delta from calibrations where site = $1) m using (zone)
 where z.site = $1
 group by z.zone, z.inside
having z.inside <> coalesce(sum(m.people), 0)
 order by 1

-- name: zones_conserve_people
select format('all zones together hold %s people', sum(inside)) from zones where site = $1 having sum(inside) <> 0

-- name: nothing_points_nowhere
-- What the gates' tables have no foreign key for, because it would be looked at for each visitor.
select format('the end of grant %s: no such grant', e.grant_id)
  from grant_ends e
 where e.site = $1 and not exists (select from grants g where g.site = $1 and g.grant_id = e.grant_id)
union all
select format('%s %s: no such zone', used.what, used.zone)
  from (select 'grants from' as what, from_zone as zone from grants where site = $1
        union select 'grants to', to_zone from grants where site = $1
        union select 'passages from', from_zone from passages where site = $1
        union select 'passages to', to_zone from passages where site = $1
        union select 'tickets in', at_zone from tickets where site = $1 and at_zone is not null) used
 where not exists (select from zones z where z.site = $1 and z.zone = used.zone)
 order by 1

-- name: zone_holds_match_holds
select format('zone %s: counter %s, holds %s', z.zone, z.held, coalesce(sum(h.pax - h.passed), 0))
  from zones z
  left join (select g.to_zone, h.pax, h.passed from holds h join grants g on g.site = $1 and g.grant_id = h.grant_id
              where h.site = $1 and g.kind <> 'exit') h on h.to_zone = z.zone
 where z.site = $1
 group by z.zone, z.held
having z.held <> coalesce(sum(h.pax - h.passed), 0)
 order by 1

-- name: limits_held_at_every_grant
-- The books played again in their order: when a grant was committed, its zone had room for it. Staff take none.
with moves as (
    select ledger_seq, to_zone as zone, 0 as inside, 0 as staff, pax as held from grants
     where site = $1 and kind <> 'exit'
    union all
    select p.ledger_seq, way.zone, way.people, way.people * (g.product_class in ('staff', 'contractor'))::int,
           case when way.people = 1 and p.kind = 'granted' and g.kind <> 'exit' then -1 else 0 end
      from passages p
      left join grants g on g.site = $1 and g.grant_id = p.grant_id
     cross join lateral (values (p.to_zone, 1), (p.from_zone, -1)) as way (zone, people)
     where p.site = $1
    union all
    select e.ledger_seq, g.to_zone, 0, 0, e.passed - g.pax
      from grant_ends e join grants g on g.site = $1 and g.grant_id = e.grant_id
     where e.site = $1 and g.kind <> 'exit'
    union all
    select c.ledger_seq, way.zone, way.sign * c.delta, way.sign * c.staff, 0
      from calibrations c
     cross join lateral (values (c.zone, 1), (c.against, -1)) as way (zone, sign)
     where c.site = $1
), played as (
    select ledger_seq, zone, sum(inside) over story as inside, coalesce(sum(staff) over story, 0) as staff,
           sum(held) over story as held
      from moves window story as (partition by zone order by ledger_seq)
)
select distinct format('grant %s: %s inside, %s of them staff, and %s held in %s with its limit of %s', g.grant_id,
                       p.inside, p.staff, p.held, p.zone, g.zone_limit)
  from grants g join played p on p.ledger_seq = g.ledger_seq and p.zone = g.to_zone
 where g.site = $1 and g.kind = 'entry' and g.product_class not in ('staff', 'contractor')
   and greatest(p.inside - greatest(p.staff, 0), 0) + p.held > g.zone_limit
 order by 1

-- name: staff_counts_match_movements
-- Staff and contractors are counted apart, among the others; all zones together hold none.
select format('zone %s: %s staff, movements %s', z.zone, z.staff, coalesce(sum(m.staff), 0))
  from zones z
  left join (select way.zone, way.staff
               from passages p
               join grants g on g.site = $1 and g.grant_id = p.grant_id
                            and g.product_class in ('staff', 'contractor')
              cross join lateral (values (p.to_zone, 1), (p.from_zone, -1)) as way (zone, staff)
              where p.site = $1
             union all select zone, staff from calibrations where site = $1
             union all select against, -staff from calibrations where site = $1) m using (zone)
 where z.site = $1
 group by z.zone, z.staff
having z.staff <> coalesce(sum(m.staff), 0)
union all
select format('all zones together hold %s staff', sum(staff)) from zones where site = $1 having sum(staff) <> 0
 order by 1

-- name: first_entries_match_passages
-- Visitors who entered on a right for the first time on the zone's present business day.
select format('zone %s on %s: %s first entries, %s passages', z.zone, z.day, z.entered, count(p.seq))
  from zones z
  join sites s on s.site = z.site
  left join (passages p join grants g on g.site = $1 and g.grant_id = p.grant_id and g.kind = 'entry'
                                     and g.product_class not in ('staff', 'contractor'))
    on p.site = $1 and p.to_zone = z.zone and p.direction = 'entry'
   and p.booked_at >= (z.day + s.business_day_start) at time zone s.timezone
   and not exists (select from calibrations c
                    where c.site = $1
                      and c.key = format('late_upload:%s:%s:%s:%s:%s', p.device, p.boot, p.direction, p.seq, z.zone))
 where z.site = $1 and z.day is not null
 group by z.zone, z.day, z.entered
having z.entered <> count(p.seq)
 order by 1

-- name: stops_are_what_people_ordered
select format('zone %s: %s is stopped until %s, the last order says %s', z.zone, now.what, now.until, o.until)
  from zones z
 cross join lateral (values ('entry', z.entry_stopped_until), ('sale', z.sale_stopped_until),
                            ('one_for_one', z.one_for_one_until)) as now (what, until)
  left join lateral (select until from zone_stops o
                      where o.site = $1 and o.zone = z.zone and o.what = now.what
                      order by stop desc limit 1) o on true
 where z.site = $1 and now.until is distinct from o.until
 order by 1

-- name: days_close_with_what_was_left
-- The close of a day writes off exactly those whom it says.
select format('%s: residual %s, corrections %s', d.day, d.residual, coalesce(sum(c.delta), 0))
  from day_closes d
  left join calibrations c on c.site = $1 and c.reason = 'night_close'
                          and c.key like format('night_close:%s:%%', d.day)
 where d.site = $1
 group by d.day, d.residual
having d.residual <> -coalesce(sum(c.delta), 0)
 order by 1

-- name: payments_match_orders
-- Invariant 12. What paid for nothing is to go back; an order that waits for its money, or has run out, has none.
select format('order %s of %s cents: %s paid, %s of it for nothing, change %s of %s', o.order_id, o.total_cents, p.paid,
              b.back, p.change, o.change_cents)
  from orders o
  left join reservations r on r.site = $1 and r.order_id = o.order_id
 cross join lateral (select coalesce(sum(tendered_cents - change_cents), 0) as paid,
                            coalesce(sum(change_cents), 0) as change
                       from payments where site = $1 and order_id = o.order_id) p
 cross join lateral (select coalesce(sum(amount_cents), 0) as back
                       from refunds where site = $1 and order_id = o.order_id and kind = 'payment') b
 where o.site = $1
   and (p.paid - b.back <> case when coalesce(r.state, 'paid') = 'paid' then o.total_cents else 0 end
        or p.change <> o.change_cents)
 order by 1

-- name: orders_add_up
select format('order %s of %s cents: lines of %s', o.order_id, o.total_cents,
              coalesce(sum(l.quantity * l.unit_price_cents), 0))
  from orders o left join order_lines l on l.site = $1 and l.order_id = o.order_id
 where o.site = $1
 group by o.order_id, o.total_cents
having o.total_cents <> coalesce(sum(l.quantity * l.unit_price_cents), 0)
 order by 1

-- name: sold_lines_keep_their_price
-- Invariant 21: what a line cost is what its version of the product cost.
select format('order %s line %s: %s cents, the product %s version %s costs %s', l.order_id, l.line, l.unit_price_cents,
              l.product, l.version, p.price_cents)
  from order_lines l
  join products p on p.site = $1 and p.product = l.product and p.version = l.version
 where l.site = $1 and l.unit_price_cents <> p.price_cents
 order by 1

-- name: lines_are_issued_once
-- Invariant 16: as many tickets as were sold, numbered from 1.
select format('order %s line %s of %s: %s tickets, numbers up to %s', l.order_id, l.line, l.quantity, count(t.ticket),
              coalesce(max(t.number), 0))
  from order_lines l
  left join tickets t on t.site = $1 and t.order_id = l.order_id and t.line = l.line
 where l.site = $1
 group by l.order_id, l.line, l.quantity
having l.quantity <> count(t.ticket) or l.quantity <> coalesce(max(t.number), 0)
 order by 1

-- name: tickets_carry_what_was_sold
select format('ticket %s: zone %s, %s instead of %s people', coalesce(e.ticket, t.ticket), coalesce(e.zone, t.zone, 'shared'),
              case when e.ticket is null then 'no entitlement' else coalesce(e.sold::text, 'unlimited') end,
              case when t.ticket is null then 'none' else coalesce(t.sold::text, 'unlimited') end)
  from (select distinct t.ticket, r.place - 1 as rule, z.zone,
               case coalesce((r.rule ->> 'uses')::bigint, 1) when 0 then null
                    else least(coalesce((r.rule ->> 'uses')::bigint, 1) * t.pax, 2147483647) end as sold
          from tickets t
          join products p on p.site = $1 and p.product = t.product and p.version = t.version
         cross join lateral jsonb_array_elements(p.rules -> 'rights') with ordinality as r (rule, place)
         cross join lateral (select jsonb_array_elements_text(r.rule -> 'zones') as zone
                              where not coalesce((r.rule ->> 'shared')::boolean, false)
                             union all select null where coalesce((r.rule ->> 'shared')::boolean, false)) z
         where t.site = $1) t
  full join (select ticket, rule, zone, sold from entitlements where site = $1) e
         on e.ticket = t.ticket and e.rule = t.rule and coalesce(e.zone, '') = coalesce(t.zone, '')
 where t.ticket is null or e.ticket is null or e.sold is distinct from t.sold
 order by 1

-- name: tickets_can_be_presented
select format('ticket %s has no credential', t.ticket)
  from tickets t
 where t.site = $1 and not exists (select from credentials c where c.site = $1 and c.ticket = t.ticket)
 order by 1

-- name: print_jobs_belong_to_their_order
select format('print job %s of order %s: ticket %s is of order %s', j.job, j.order_id, j.ticket, t.order_id)
  from print_jobs j left join tickets t on t.site = $1 and t.ticket = j.ticket
 where j.site = $1 and t.order_id is distinct from j.order_id
 order by 1

-- name: everything_done_names_somebody
-- Invariant 24.
select format('%s: no user or no reason', what)
  from (select 'audit entry ' || seq as what from audit_log where site = $1 and (user_name = '' or action = '')
        union all select 'order ' || order_id from orders where site = $1 and user_name = ''
        union all select 'calibration ' || calibration from calibrations
                   where site = $1 and (user_name = '' or reason = '')) unnamed
 order by 1

-- name: audit_chain_is_whole
select format('audit entry %s: %s', seq,
              case when seq <> place then format('in place %s', place)
                   when prev_hash <> coalesce(before, decode(repeat('00', 32), 'hex')) then 'does not follow the one before'
                   else 'its hash is of something else' end)
  from (select *, row_number() over story as place, lag(hash) over story as before
          from audit_log where site = $1 window story as (order by seq)) chain
 where seq <> place
    or prev_hash <> coalesce(before, decode(repeat('00', 32), 'hex'))
    or hash <> audit_hash(prev_hash, seq, at, user_name, role, action, subject, reason)
 order by seq

-- name: evacuation_notes_have_their_incident
select format('note %s of incident %s', n.seq, n.incident)
  from incident_notes n left join incidents i on i.site = $1 and i.incident = n.incident
 where n.site = $1 and i.incident is null
 order by 1

-- name: settings_are_durable
select format('%s is %s', name, setting)
  from pg_settings
 where name in ('fsync', 'full_page_writes') and setting <> 'on'
    or name = 'synchronous_commit' and setting = 'off'
 order by 1
