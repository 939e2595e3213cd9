-- The office's commands (storage._office and its handlers). $1 is the site.

-- name: command
select digest, answer from office_commands where site = $1 and command = $2

-- name: insert_command
insert into office_commands (site, command, action, user_name, role, reason, digest, answer, booked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9))

-- name: tickets
select t.ticket, t.order_id, t.line, t.state, t.product, t.version, t.pax, l.quantity, l.unit_price_cents, l.visit_date,
       l.slot, p.pax as product_pax, extract(epoch from t.valid_to)::float8 as valid_to,
       (select coalesce(sum(r.places), 0)::int from refunds r
         where r.site = $1 and r.order_id = t.order_id and r.ticket = t.ticket
           and not exists (select from refund_steps s where s.site = $1 and s.refund = r.refund
                              and s.step = 'rejected')) as given_back
  from tickets t
  join order_lines l on l.site = $1 and l.order_id = t.order_id and l.line = t.line
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
 where t.site = $1 and t.ticket = any ($2::bigint[])
 order by t.ticket
   for update of t

-- name: rights
select e.ticket, e.entitlement, e.rule, e.zone, e.sold, e.redeemed, e.held, e.refunded, e.reserved_refund, e.set_aside,
       (select count(*)::int from credentials c
         where c.site = $1 and c.ticket = e.ticket and c.personal and c.state = 'active' and e.set_aside > 0
           and not exists (select from personal_uses u where u.site = $1 and u.credential = c.credential
                              and u.entitlement = e.entitlement and u.redeemed + u.held > 0)) as promised,
       (select coalesce(sum(u.redeemed + u.held), 0)::int from personal_uses u
         where u.site = $1 and u.entitlement = e.entitlement) as by_people
  from entitlements e
 where e.site = $1 and e.ticket = any ($2::bigint[])
 order by e.entitlement
   for update of e

-- name: set_ticket_state
update tickets set state = $3 where site = $1 and ticket = $2

-- Refunds -----------------------------------------------------------------------------------------------------------

-- name: personal_credentials
select c.credential, c.state,
       exists (select from personal_uses u where u.site = $1 and u.credential = c.credential
                  and u.redeemed + u.held > 0) as used
  from credentials c
 where c.site = $1 and c.ticket = $2 and c.personal

-- name: line_so_far
-- People of a line, and what was refunded of it or is being refunded.
select (select coalesce(sum(t.pax), 0)::int from tickets t
         where t.site = $1 and t.order_id = $2 and t.line = $3) as people,
       coalesce(sum(r.places), 0)::int as given_back, coalesce(sum(r.amount_cents), 0)::bigint as refunded_cents
  from refunds r join tickets t on t.site = $1 and t.ticket = r.ticket and t.line = $3
 where r.site = $1 and r.order_id = $2
   and not exists (select from refund_steps s where s.site = $1 and s.refund = r.refund and s.step = 'rejected')

-- name: payments_left
-- What of each payment may still go back.
select p.payment, (p.tendered_cents - p.change_cents - coalesce((
           select sum(part.amount_cents) from refund_tenders part
            where part.site = $1 and part.order_id = p.order_id and part.payment = p.payment
              and not exists (select from refund_steps s where s.site = $1 and s.refund = part.refund
                                 and s.step = 'rejected')), 0))::bigint as cents_left
  from payments p
 where p.site = $1 and p.order_id = $2

-- name: insert_refund
insert into refunds (site, refund, order_id, ticket, kind, places, amount_cents, command, booked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9))

-- name: insert_refund_tender
insert into refund_tenders (site, refund, order_id, payment, amount_cents) values ($1, $2, $3, $4, $5)

-- name: insert_refund_right
insert into refund_rights (site, refund, entitlement, taken) values ($1, $2, $3, $4)

-- name: insert_refund_credential
insert into refund_credentials (site, refund, credential) values ($1, $2, $3)

-- name: insert_refund_step
insert into refund_steps (site, refund, step, command, booked_at) values ($1, $2, $3, $4, to_timestamp($5))

-- name: reserve_refund
-- $3 uses in all, $4 of them were promised to somebody who gives them up.
update entitlements set reserved_refund = reserved_refund + $3, set_aside = set_aside - $4
 where site = $1 and entitlement = $2

-- name: release_refund
-- Rejected: $3 of its $4 places were promised to somebody, and are again.
update entitlements e
   set reserved_refund = e.reserved_refund - r.taken, set_aside = e.set_aside + $3::int * (r.taken / $4::int)
  from refund_rights r
 where r.site = $1 and r.refund = $2 and e.site = $1 and e.entitlement = r.entitlement

-- name: finish_refund
update entitlements e set reserved_refund = e.reserved_refund - r.taken, refunded = e.refunded + r.taken
  from refund_rights r
 where r.site = $1 and r.refund = $2 and e.site = $1 and e.entitlement = r.entitlement

-- name: refund_credentials
select credential from refund_credentials where site = $1 and refund = $2

-- name: set_credentials
update credentials set state = $3 where site = $1 and credential = any ($2::bigint[])

-- name: refunds
select r.refund, r.order_id, r.ticket, r.places, r.amount_cents, c.user_name as requested_by,
       coalesce((select s.step from refund_steps s where s.site = $1 and s.refund = r.refund
                  order by s.step = 'done' desc limit 1), 'requested') as state
  from refunds r left join office_commands c on c.site = $1 and c.command = r.command
 where r.site = $1 and (r.order_id = $2::bigint or r.refund = $3::bigint)
 order by r.refund

-- name: refund_parts
select part.refund, p.tender, part.amount_cents
  from refund_tenders part
  join payments p on p.site = $1 and p.order_id = part.order_id and p.payment = part.payment
 where part.site = $1 and part.refund = any ($2::bigint[])
 order by part.refund, part.payment desc

-- Groups ------------------------------------------------------------------------------------------------------------

-- name: insert_hold
insert into ticket_holds (site, ticket, step, held, command, booked_at)
values ($1, $2, 1 + (select count(*) from ticket_holds where site = $1 and ticket = $2), $3, $4, to_timestamp($5))

-- name: insert_collection
insert into collections (site, collection, ticket, places, workstation, command, booked_at)
values ($1, $2, $3, $4, $5, $6, to_timestamp($7))

-- name: insert_personal
insert into credentials (site, credential, ticket, kind, value_hash, tail, value_enc, personal)
select $1, credential, $2, $4, value_hash, tail, value_enc, true
  from unnest($3::bigint[], $5::bytea[], $6::text[],
              coalesce($7::bytea[], array_fill(null::bytea, array[cardinality($3::bigint[])])))
       as new (credential, value_hash, tail, value_enc)

-- name: insert_places
insert into personal_places (site, credential, ticket, order_id, collection, person, name_enc, command)
select $1, credential, $2, $3, $5, person, name_enc, $8
  from unnest($4::bigint[], coalesce($6::bytea[], array_fill(null::bytea, array[cardinality($4::bigint[])])),
              coalesce($7::bytea[], array_fill(null::bytea, array[cardinality($4::bigint[])])))
       as new (credential, person, name_enc)

-- name: set_aside
update entitlements set set_aside = set_aside + $3 where site = $1 and entitlement = $2

-- name: close_shared_code
update credentials set state = 'superseded'
 where site = $1 and ticket = $2 and not personal and kind in ('code', 'short') and state = 'active'

-- name: collected
-- Handed out so far and not taken back.
select count(*)::int as places
  from personal_places p join credentials c on c.site = $1 and c.credential = p.credential and c.state <> 'void'
 where p.site = $1 and p.ticket = $2 and p.collection is not null

-- name: already_named
select 1 from personal_places where site = $1 and order_id = $2 and person = any ($3::bytea[]) limit 1

-- name: named
select count(*)::int as people
  from personal_places p join credentials c on c.site = $1 and c.credential = p.credential and c.state <> 'void'
 where p.site = $1 and p.ticket = $2 and p.person is not null

-- name: insert_transfer
insert into transfers (site, transfer, from_ticket, to_ticket, places, command, booked_at)
values ($1, $2, $3, $4, $5, $6, to_timestamp($7))

-- name: move_sold
update entitlements set sold = sold + $5
 where site = $1 and ticket = $2 and rule = $3 and zone is not distinct from $4::text

-- name: move_pax
update tickets set pax = pax + $3 where site = $1 and ticket = $2

-- Cards and admissions ----------------------------------------------------------------------------------------------

-- name: cards_of
select credential, issue_index, state from credentials
 where site = $1 and ticket = $2 and kind = 'card' order by issue_index for update

-- name: card_known
select 1 from credentials where site = $1 and kind = 'card' and value_hash = $2

-- name: insert_card
insert into credentials (site, credential, ticket, kind, value_hash, tail, issue_index)
values ($1, $2, $3, 'card', $4, $5, $6)

-- name: insert_card_event
insert into card_events (site, event, credential, state, command, booked_at)
values ($1, $2, $3, $4, $5, to_timestamp($6))

-- name: latest_uses
-- The last uses of a ticket that were not reversed, the latest first.
select r.device, r.boot, r.direction, r.seq, r.entitlement, p.from_zone, p.to_zone,
       extract(epoch from coalesce(p.seen_at, least(p.device_at, p.booked_at)))::float8 as seen_at, g.credential,
       coalesce(c.personal, false) as personal
  from entitlements e
  join redemptions r on r.site = $1 and r.entitlement = e.entitlement
  join passages p on p.site = $1 and p.device = r.device and p.boot = r.boot and p.direction = r.direction
                 and p.seq = r.seq
  join grants g on g.site = $1 and g.grant_id = r.grant_id
  left join credentials c on c.site = $1 and c.credential = g.credential
 where e.site = $1 and e.ticket = $2
   and not exists (select from reversals v where v.site = $1 and v.device = r.device and v.boot = r.boot
                      and v.direction = r.direction and v.seq = r.seq)
 order by p.ledger_seq desc
 limit $3

-- name: insert_reversal
insert into reversals (site, device, boot, direction, seq, entitlement, count_corrected, command, booked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9))

-- name: unuse_right
update entitlements
   set redeemed = redeemed - 1, used_day = case when day = $3 then greatest(0, used_day - 1) else used_day end
 where site = $1 and entitlement = $2

-- name: unuse_personal
update personal_uses set redeemed = redeemed - 1 where site = $1 and credential = $2 and entitlement = $3

-- name: recall_last_use
-- When and where the right was last used, as if what was reversed had not been.
update entitlements e
   set last_used_at = last.at, last_used_lane = coalesce(last.lane, ''), first_used_at = last.first_at
  from unnest($2::bigint[]) as w (entitlement)
  left join lateral (
       select (array_agg(used.lane order by used.at desc))[1] as lane, max(used.at) as at, min(used.at) as first_at
         from (select p.lane, coalesce(p.seen_at, least(p.device_at, p.booked_at)) as at
                 from redemptions r
                 join passages p on p.site = $1 and p.device = r.device and p.boot = r.boot
                                and p.direction = r.direction and p.seq = r.seq
                where r.site = $1 and r.entitlement = w.entitlement
                  and not exists (select from reversals v where v.site = $1 and v.device = r.device
                                     and v.boot = r.boot and v.direction = r.direction and v.seq = r.seq)) used
       ) last on true
 where e.site = $1 and e.entitlement = w.entitlement

-- name: forget_place
update tickets set at_zone = null, at_since = null where site = $1 and ticket = $2

-- Orders ------------------------------------------------------------------------------------------------------------

-- name: slots
select s.product, s.visit_date, s.opens, s.closes, s.total, s.held, s.sold
  from unnest($2::text[], $3::date[], $4::text[]) as w (product, visit_date, opens)
  join slots s on s.site = $1 and s.product = w.product and s.visit_date = w.visit_date and s.opens = w.opens
   for update of s

-- name: write_slots
insert into slots (site, product, visit_date, opens, closes, total, held, sold)
select $1, product, visit_date, opens, closes, total, held, sold
  from unnest($2::text[], $3::date[], $4::text[], $5::text[], $6::int[], $7::int[], $8::int[])
       as new (product, visit_date, opens, closes, total, held, sold)
on conflict (site, product, visit_date, opens) do update
   set closes = excluded.closes, total = excluded.total, held = excluded.held, sold = excluded.sold

-- name: release_sold
update slots set sold = sold - $5 where site = $1 and product = $2 and visit_date = $3 and opens = $4

-- name: settle_held
-- The places that an order holds in slots: sold with $3, free without.
update slots s
   set held = s.held - mine.people, sold = s.sold + case when $3 then mine.people else 0 end
  from (select l.product, l.visit_date, l.slot, sum(l.quantity * p.pax)::int as people
          from order_lines l
          join products p on p.site = $1 and p.product = l.product and p.version = l.version
         where l.site = $1 and l.order_id = $2 and l.slot <> ''
         group by l.product, l.visit_date, l.slot) mine
 where s.site = $1 and s.product = mine.product and s.visit_date = mine.visit_date and s.opens = mine.slot

-- name: slot_lines
select l.product, l.version, l.visit_date, l.slot, (l.quantity * p.pax)::int as people
  from order_lines l
  join products p on p.site = $1 and p.product = l.product and p.version = l.version
 where l.site = $1 and l.order_id = $2
 order by l.line

-- name: order_for_payment
select coalesce(r.state, 'paid') as state, o.total_cents,
       coalesce(r.pay_by <= to_timestamp($3), false) as overdue,
       (select array_agg(t.ticket order by t.line, t.number) from tickets t
         where t.site = $1 and t.order_id = o.order_id) as tickets,
       (select extract(epoch from max(t.valid_to))::float8 from tickets t
         where t.site = $1 and t.order_id = o.order_id) as valid_to
  from orders o left join reservations r on r.site = $1 and r.order_id = o.order_id
 where o.site = $1 and o.order_id = $2

-- name: next_payment
select coalesce(max(payment), 0) + 1 as payment from payments where site = $1 and order_id = $2

-- name: insert_payment
insert into payments (site, order_id, payment, tender, tendered_cents) values ($1, $2, $3, $4, $5)

-- name: insert_notice
insert into payment_notices (site, tender, key, order_id, amount_cents, outcome, refund, booked_at)
values ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8))

-- name: set_reservation
update reservations set state = $3, changed_at = to_timestamp($4) where site = $1 and order_id = $2

-- name: activate_tickets
update tickets set state = 'active' where site = $1 and order_id = $2 and state = 'unpaid'

-- name: void_tickets
update tickets set state = 'void' where site = $1 and order_id = $2 and state = 'unpaid'

-- name: to_print
select t.ticket, r.printer
  from reservations r
  join tickets t on t.site = $1 and t.order_id = r.order_id
  join credentials c on c.site = $1 and c.ticket = t.ticket and c.kind = 'code'
 where r.site = $1 and r.order_id = $2 and r.printer <> ''
 order by t.line, t.number

-- name: insert_print_job
insert into print_jobs (site, job, order_id, ticket, printer, created_at, changed_at)
values ($1, $2, $3, $4, $5, to_timestamp($6), to_timestamp($6))

-- name: overdue
select order_id from reservations
 where site = $1 and state = 'held' and pay_by <= to_timestamp($2) order by pay_by limit $3

-- Pre-printed codes -------------------------------------------------------------------------------------------------

-- name: insert_batch
insert into code_batches (site, batch, product, version, quantity, created_by, command, created_at)
values ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8))

-- name: insert_preprinted
insert into preprinted (site, ticket, batch, serial, changed_at)
select $1, ticket, $2, serial, to_timestamp($4) from unnest($3::bigint[]) with ordinality as new (ticket, serial)

-- name: insert_move
insert into code_moves (site, batch, move, first, last, state, workstation, command, booked_at)
values ($1, $2, 1 + (select count(*) from code_moves where site = $1 and batch = $2), $3, $4, $5, $6, $7,
        to_timestamp($8))

-- name: insert_export
insert into code_exports (site, batch, export, sha256, handed_to, created_by, exported_by, command, booked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9))

-- name: send_to_printer
update preprinted set state = 'at_printer', changed_at = to_timestamp($3)
 where site = $1 and batch = $2 and state = 'blank'

-- name: codes_not_in
select serial, state from preprinted
 where site = $1 and batch = $2 and serial between $3 and $4 and not state = any ($5::text[])
 order by serial limit 1

-- name: move_codes
update preprinted set state = $5, workstation = $6, changed_at = to_timestamp($7)
 where site = $1 and batch = $2 and serial between $3 and $4

-- name: batches
select b.batch, b.product, b.quantity, b.created_by,
       (select count(*)::int from code_exports e where e.site = $1 and e.batch = b.batch) as exported,
       (select array_agg(row (n.state, n.codes)) from (
           select p.state, count(*)::int as codes from preprinted p
            where p.site = $1 and p.batch = b.batch group by p.state order by p.state) n) as states
  from code_batches b
 where b.site = $1 and ($2::bigint = 0 or b.batch = $2)
 order by b.batch desc
 limit $3

-- name: codes_of_batch
select serial, ticket from preprinted
 where site = $1 and batch = $2 and state in ('blank', 'at_printer') order by serial

-- name: batch
select b.batch, b.product, b.version, b.created_by, extract(epoch from b.created_at)::float8 as created_at
  from code_batches b where b.site = $1 and b.batch = $2

-- name: preprinted
-- Codes that a sale names: by ticket, or by batch and serial.
select p.ticket, p.batch, p.serial, p.state, b.product, b.version
  from (select unnest($2::bigint[]) as ticket
        union
        select p.ticket from unnest($3::bigint[], $4::bigint[]) as w (batch, serial)
          join preprinted p on p.site = $1 and p.batch = w.batch and p.serial = w.serial) wanted
  join preprinted p on p.site = $1 and p.ticket = wanted.ticket
  join code_batches b on b.site = $1 and b.batch = p.batch
   for update of p

-- Questions ---------------------------------------------------------------------------------------------------------

-- name: find_order
select o.order_id, o.channel, o.user_name, extract(epoch from o.sold_at)::float8 as sold_at, o.total_cents,
       o.supplement_of, coalesce(r.state, 'paid') as reservation, extract(epoch from r.pay_by)::float8 as pay_by,
       (select coalesce(sum(p.tendered_cents - p.change_cents), 0)::bigint from payments p
         where p.site = $1 and p.order_id = o.order_id) as paid_cents,
       (select coalesce(sum(f.amount_cents), 0)::bigint from refunds f
         where f.site = $1 and f.order_id = o.order_id
           and exists (select from refund_steps s where s.site = $1 and s.refund = f.refund and s.step = 'done'))
           as refunded_cents
  from orders o left join reservations r on r.site = $1 and r.order_id = o.order_id
 where o.site = $1
   and o.order_id = coalesce((select order_id from orders where site = $1 and order_id = $2),
                             (select order_id from tickets where site = $1 and ticket = $2),
                             (select t.order_id from credentials c join tickets t on t.site = $1 and t.ticket = c.ticket
                               where c.site = $1 and c.credential = $2))

-- name: tickets_of_order
select t.ticket, t.line, t.product, t.version, t.state, t.pax, p.name_zh, p.name_en,
       extract(epoch from t.valid_from)::float8 as valid_from, extract(epoch from t.valid_to)::float8 as valid_to,
       extract(epoch from t.slot_from)::float8 as slot_from, extract(epoch from t.slot_to)::float8 as slot_to,
       (select coalesce(sum(r.places), 0)::int from refunds r
         where r.site = $1 and r.order_id = t.order_id and r.ticket = t.ticket
           and not exists (select from refund_steps s where s.site = $1 and s.refund = r.refund
                              and s.step = 'rejected')) as given_back,
       (select c.reason from ticket_holds h join office_commands c on c.site = $1 and c.command = h.command
         where h.site = $1 and h.ticket = t.ticket order by h.step desc limit 1) as hold_reason
  from tickets t
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
 where t.site = $1 and t.order_id = $2
 order by t.ticket = $3 desc, t.line, t.number
 limit $4

-- name: rights_of_tickets
select e.ticket, e.entitlement, e.rule, e.zone, e.sold, e.redeemed, e.held, e.refunded, e.reserved_refund, e.set_aside,
       (select count(*)::int from credentials c
         where c.site = $1 and c.ticket = e.ticket and c.personal and c.state = 'active' and e.set_aside > 0
           and not exists (select from personal_uses u where u.site = $1 and u.credential = c.credential
                              and u.entitlement = e.entitlement and u.redeemed + u.held > 0)) as promised,
       (select coalesce(sum(u.redeemed + u.held), 0)::int from personal_uses u
         where u.site = $1 and u.entitlement = e.entitlement) as by_people
  from entitlements e
 where e.site = $1 and e.ticket = any ($2::bigint[])
 order by e.entitlement

-- name: credentials_of_tickets
select c.ticket, c.credential, c.kind, c.tail, c.state, c.issue_index, c.personal, pp.collection is not null as paper,
       (select coalesce(sum(u.redeemed), 0)::int from personal_uses u
         where u.site = $1 and u.credential = c.credential) as redeemed
  from credentials c
  left join personal_places pp on pp.site = $1 and pp.credential = c.credential
 where c.site = $1 and c.ticket = any ($2::bigint[])
 order by c.credential
