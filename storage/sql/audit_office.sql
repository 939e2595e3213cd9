-- The office's promises, checked as those in audit.sql are: one line of text per row that breaks one. $1 is the site.

-- name: refunds_match_the_counters
-- Invariant 1: what is refunded or being refunded of a right is what its refunds say.
select format('entitlement %s: refunded %s and reserved %s, its refunds say %s and %s', e.entitlement, e.refunded,
              e.reserved_refund, coalesce(r.done, 0), coalesce(r.open, 0))
  from entitlements e
  left join (select rr.entitlement, sum(rr.taken) filter (where s.done) as done,
                    sum(rr.taken) filter (where not s.done and not s.rejected) as open
               from refund_rights rr
              cross join lateral (select coalesce(bool_or(step = 'done'), false) as done,
                                         coalesce(bool_or(step = 'rejected'), false) as rejected
                                    from refund_steps where site = $1 and refund = rr.refund) s
              where rr.site = $1
              group by rr.entitlement) r using (entitlement)
 where e.site = $1 and (e.refunded <> coalesce(r.done, 0) or e.reserved_refund <> coalesce(r.open, 0))
 order by 1

-- name: refunds_add_up
-- Invariant 12: the parts of a refund are its amount.
select format('refund %s of %s cents: parts of %s', r.refund, r.amount_cents, coalesce(sum(p.amount_cents), 0))
  from refunds r left join refund_tenders p on p.site = $1 and p.refund = r.refund
 where r.site = $1
 group by r.refund, r.amount_cents
having r.amount_cents <> coalesce(sum(p.amount_cents), 0)
 order by 1

-- name: refunds_stay_within_payments
-- Invariant 12: no payment gives back more than it brought.
select format('order %s payment %s of %s cents: %s go back', p.order_id, p.payment, p.tendered_cents - p.change_cents,
              sum(t.amount_cents))
  from payments p
  join refund_tenders t on t.site = $1 and t.order_id = p.order_id and t.payment = p.payment
 where p.site = $1
   and not exists (select from refund_steps s where s.site = $1 and s.refund = t.refund and s.step = 'rejected')
 group by p.order_id, p.payment, p.tendered_cents, p.change_cents
having sum(t.amount_cents) > p.tendered_cents - p.change_cents
 order by 1

-- name: refunds_stay_within_their_line
-- A line gives back no more than it cost, and not more people than it was for.
select format('order %s line %s of %s cents for %s people: %s cents for %s people go back', l.order_id, l.line,
              l.quantity * l.unit_price_cents, l.quantity * p.pax, sum(r.amount_cents), sum(r.places))
  from refunds r
  join tickets t on t.site = $1 and t.ticket = r.ticket
  join order_lines l on l.site = $1 and l.order_id = t.order_id and l.line = t.line
  join products p on p.site = $1 and p.product = l.product and p.version = l.version
 where r.site = $1
   and not exists (select from refund_steps s where s.site = $1 and s.refund = r.refund and s.step = 'rejected')
 group by l.order_id, l.line, l.quantity, l.unit_price_cents, p.pax
having sum(r.amount_cents) > l.quantity * l.unit_price_cents or sum(r.places) > l.quantity * p.pax
 order by 1

-- name: refunds_are_approved_before_they_are_done
select format('refund %s is done without approval', s.refund)
  from refund_steps s
 where s.site = $1 and s.step = 'done'
   and not exists (select from refund_steps a where a.site = $1 and a.refund = s.refund and a.step = 'approved')
 order by 1

-- name: large_refunds_take_two_people
select format('refund %s of %s cents: requested and approved by %s', r.refund, r.amount_cents, asked.user_name)
  from refunds r
  join refund_steps s on s.site = $1 and s.refund = r.refund and s.step = 'approved'
  join office_commands asked on asked.site = $1 and asked.command = r.command
  join office_commands approved on approved.site = $1 and approved.command = s.command
 where r.site = $1 and r.kind = 'places' and r.amount_cents > 50000 and asked.user_name = approved.user_name
 order by 1

-- name: slots_are_not_oversold
-- Invariant 11.
select format('%s on %s at %s: %s sold and %s held of %s', product, visit_date, opens, sold, held, total)
  from slots
 where site = $1 and (sold + held > total or least(sold, held) < 0)
 order by 1

-- name: slots_match_their_orders
select format('%s on %s at %s: %s sold and %s held, its orders say %s and %s', product, visit_date, opens,
              coalesce(s.sold, 0), coalesce(s.held, 0), coalesce(o.sold, 0), coalesce(o.held, 0))
  from (select product, visit_date, opens, sold, held from slots where site = $1) s
  full join (
       select l.product, l.visit_date, l.slot as opens,
              sum(case when coalesce(r.state, 'paid') = 'paid' then l.quantity * p.pax - coalesce(gone.places, 0)
                       else 0 end) as sold,
              sum(case when r.state = 'held' then l.quantity * p.pax else 0 end) as held
         from order_lines l
         join products p on p.site = $1 and p.product = l.product and p.version = l.version
         left join reservations r on r.site = $1 and r.order_id = l.order_id
         left join lateral (
              select sum(f.places) as places
                from refunds f
                join tickets t on t.site = $1 and t.ticket = f.ticket and t.line = l.line
                join refund_steps d on d.site = $1 and d.refund = f.refund and d.step = 'done'
               where f.site = $1 and f.order_id = l.order_id) gone on true
        where l.site = $1 and l.slot <> ''
        group by l.product, l.visit_date, l.slot) o using (product, visit_date, opens)
 where (coalesce(s.sold, 0), coalesce(s.held, 0)) <> (coalesce(o.sold, 0), coalesce(o.held, 0))
 order by 1

-- name: what_is_promised_is_there
-- Invariant 2: what was collected or named, and what passed by the shared code, is no more than was sold and is left.
select format('entitlement %s: %s set aside, %s passed without, %s refunded and %s reserved of %s sold', e.entitlement,
              e.set_aside, e.redeemed - u.redeemed, e.refunded, e.reserved_refund, e.sold)
  from entitlements e
 cross join lateral (select coalesce(sum(redeemed), 0) as redeemed from personal_uses
                      where site = $1 and entitlement = e.entitlement) u
 where e.site = $1 and e.set_aside > 0
   and (e.set_aside + e.refunded + e.reserved_refund > e.sold
        or e.set_aside + e.redeemed - u.redeemed > e.sold - e.refunded)
 order by 1

-- name: promises_match_their_people
select format('entitlement %s: %s uses set aside, %s people with a credential of their own', e.entitlement, e.set_aside,
              coalesce(c.people, 0))
  from entitlements e
  join tickets t on t.site = $1 and t.ticket = e.ticket
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
  left join (select ticket, count(*) as people from credentials
              where site = $1 and personal and state <> 'void' group by ticket) c on c.ticket = e.ticket
 where e.site = $1 and e.sold is not null
   and e.set_aside <> coalesce(c.people, 0) * coalesce((p.rules -> 'rights' -> e.rule ->> 'uses')::int, 1)
 order by 1

-- name: nobody_uses_a_personal_place_twice
-- Invariant 7: somebody on a list, or with a paper, has not passed more often than one person may.
select format('credential %s: %s uses of entitlement %s, %s allowed', u.credential, u.redeemed, u.entitlement,
              coalesce((p.rules -> 'rights' -> e.rule ->> 'uses')::int, 1))
  from personal_uses u
  join entitlements e on e.site = $1 and e.entitlement = u.entitlement
  join tickets t on t.site = $1 and t.ticket = e.ticket
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
 where u.site = $1 and e.sold is not null
   and u.redeemed + u.held > coalesce((p.rules -> 'rights' -> e.rule ->> 'uses')::int, 1)
 order by 1

-- name: personal_places_have_their_credential
select format('credential %s of ticket %s: %s', coalesce(p.credential, c.credential), coalesce(p.ticket, c.ticket),
              case when p.credential is null then 'nobody was given it'
                   when c.credential is null then 'is no personal one' else format('opens ticket %s', c.ticket) end)
  from (select credential, ticket from personal_places where site = $1) p
  full join (select credential, ticket from credentials where site = $1 and personal) c using (credential)
 where p.ticket is distinct from c.ticket
 order by 1

-- name: collections_handed_out_what_they_say
select format('collection %s of %s places: %s papers', k.collection, k.places, count(p.credential))
  from collections k left join personal_places p on p.site = $1 and p.collection = k.collection
 where k.site = $1
 group by k.collection, k.places
having k.places <> count(p.credential)
 order by 1

-- name: held_tickets_were_held
select format('ticket %s is %s, the last word on it was %s', t.ticket, t.state,
              case when h.held then 'hold' else 'resume' end)
  from tickets t
  left join lateral (select held from ticket_holds where site = $1 and ticket = t.ticket
                      order by step desc limit 1) h on true
 where t.site = $1 and (t.state = 'on_hold') <> coalesce(h.held, false)
 order by 1

-- name: tickets_have_the_people_they_were_sold_for
select format('ticket %s is for %s people: sold for %s, %s came by transfer', t.ticket, t.pax, p.pax,
              coalesce(m.people, 0))
  from tickets t
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
  left join (select ticket, sum(people) as people
               from (select to_ticket as ticket, places as people from transfers where site = $1
                     union all select from_ticket, -places from transfers where site = $1) each
              group by ticket) m on m.ticket = t.ticket
 where t.site = $1 and t.pax <> p.pax + coalesce(m.people, 0)
 order by 1

-- name: transfers_stay_in_their_line
select format('transfer %s: ticket %s of order %s line %s to ticket %s of order %s line %s', m.transfer, a.ticket,
              a.order_id, a.line, b.ticket, b.order_id, b.line)
  from transfers m
  join tickets a on a.site = $1 and a.ticket = m.from_ticket
  join tickets b on b.site = $1 and b.ticket = m.to_ticket
 where m.site = $1 and (a.order_id, a.line) <> (b.order_id, b.line)
 order by 1

-- name: only_the_newest_card_opens
-- Invariant 19: of a ticket's cards none but the one of the highest issue is good.
select format('ticket %s: card %s of issue %s is %s, the newest is issue %s', ticket, credential, issue_index, state,
              newest)
  from (select ticket, credential, issue_index, state, max(issue_index) over (partition by ticket) as newest
          from credentials where site = $1 and kind = 'card') cards
 where issue_index < newest and state not in ('superseded', 'void')
 order by 1

-- name: reversals_undo_a_redemption
select format('reversal %s/%s/%s/%s: %s', v.device, v.boot, v.direction, v.seq,
              case when r.site is null then 'no redemption'
                   else format('on entitlement %s, the redemption on %s', v.entitlement, r.entitlement) end)
  from reversals v left join redemptions r using (site, device, boot, direction, seq)
 where v.site = $1 and (r.site is null or r.entitlement <> v.entitlement)
 order by 1

-- name: orders_are_issued_once_paid
-- Invariant 16: tickets open when their order is paid, by one notice, and not before.
select format('order %s is %s: %s tickets unpaid, %s void, %s notices paid it', r.order_id, r.state, t.unpaid, t.void,
              n.paid)
  from reservations r
 cross join lateral (select count(*) filter (where state = 'unpaid') as unpaid, count(*) as tickets,
                            count(*) filter (where state = 'void') as void
                       from tickets where site = $1 and order_id = r.order_id) t
 cross join lateral (select count(*) filter (where outcome <> 'given_back') as paid
                       from payment_notices where site = $1 and order_id = r.order_id) n
 where r.site = $1
   and not case r.state when 'paid' then t.unpaid = 0 and n.paid = 1
                        when 'cancelled' then t.void = t.tickets and n.paid = 0
                        else t.unpaid = t.tickets and n.paid = 0 end
 order by 1

-- name: unpaid_tickets_wait_for_their_order
select format('ticket %s is unpaid, its order %s does not wait for money', t.ticket, t.order_id)
  from tickets t
 where t.site = $1 and t.state = 'unpaid'
   and not exists (select from reservations r where r.site = $1 and r.order_id = t.order_id
                      and r.state in ('held', 'expired'))
 order by 1

-- name: every_payment_notice_is_a_payment
-- No money is lost in silence: what a provider announced is a payment, and what it did not pay for goes back.
select format('notice %s of %s: %s', n.key, n.tender,
              case when f.site is null and n.outcome = 'given_back' then 'no refund'
                   when f.amount_cents <> n.amount_cents then format('%s cents go back of %s', f.amount_cents,
                                                                     n.amount_cents)
                   else 'fewer payments than notices' end)
  from payment_notices n
  left join refunds f on f.site = $1 and f.refund = n.refund and f.order_id = n.order_id
 where n.site = $1
   and (n.outcome = 'given_back' and (f.site is null or f.amount_cents <> n.amount_cents)
        or (select coalesce(sum(amount_cents), 0) from payment_notices m
             where m.site = $1 and m.order_id = n.order_id and m.tender = n.tender)
           > (select coalesce(sum(tendered_cents), 0) from payments p
               where p.site = $1 and p.order_id = n.order_id and p.tender = n.tender))
 order by 1

-- name: codes_open_only_when_sold
-- Invariant 20: a pre-printed code has a ticket if it was sold, and only then.
select format('serial %s of batch %s is %s and has %s', p.serial, p.batch, p.state,
              case when t.ticket is null then 'no ticket' else 'a ticket' end)
  from preprinted p left join tickets t on t.site = $1 and t.ticket = p.ticket
 where p.site = $1 and (p.state = 'sold') <> (t.ticket is not null)
 order by 1

-- name: batches_are_whole
select format('batch %s of %s codes: %s, serials up to %s', b.batch, b.quantity, count(p.ticket),
              coalesce(max(p.serial), 0))
  from code_batches b left join preprinted p on p.site = $1 and p.batch = b.batch
 where b.site = $1
 group by b.batch, b.quantity
having b.quantity <> count(p.ticket) or b.quantity <> coalesce(max(p.serial), 0)
 order by 1

-- name: codes_are_where_they_were_moved
select format('serial %s of batch %s is %s, and was last moved to %s', p.serial, p.batch, p.state, coalesce(m.state, '?'))
  from preprinted p
  left join lateral (select state from code_moves where site = $1 and batch = p.batch
                        and p.serial between first and last
                        and (state <> 'at_printer' or p.state = 'at_printer')
                      order by move desc limit 1) m on true
 where p.site = $1 and p.state <> 'sold' and p.state is distinct from m.state
 order by 1

-- name: exports_take_two_people
select format('batch %s was made and exported by %s', b.batch, b.created_by)
  from code_exports e join code_batches b on b.site = $1 and b.batch = e.batch
 where e.site = $1 and (e.exported_by = b.created_by or e.created_by <> b.created_by)
 order by 1

-- name: commands_are_in_the_audit_log
-- Invariant 24: every command has its entry, with the same person and reason.
select format('command %s of %s: no audit entry', c.command, c.user_name)
  from office_commands c
 where c.site = $1
   and not exists (select from audit_log a where a.site = $1 and a.user_name = c.user_name
                      and a.action = 'office.' || c.action and a.reason = c.reason
                      and starts_with(a.subject, c.command || ': '))
 order by 1
