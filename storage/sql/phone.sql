-- name: blocked
-- Of a window of tickets, in the order of their numbers: those that may not be let in to zone $3 without the ledger.
-- Used up, held, refunded or void; with $5, of the used ones only those used since.
select max(t.ticket) as last,
       coalesce(array_agg(t.ticket order by t.ticket) filter (
           where t.state <> 'active'
              or (t.covers and not t.room and coalesce(t.last_used_at >= to_timestamp($5), true))), '{}') as tickets
  from (select w.ticket, w.state, r.covers, r.room, r.last_used_at
          from (select ticket, state, valid_to from tickets
                 where site = $1 and ticket > $2 order by ticket limit $4) w
          left join lateral (
               select count(*) > 0 as covers,
                      coalesce(bool_or(e.sold is null or e.redeemed + e.held + e.refunded + e.reserved_refund < e.sold),
                               false) as room,
                      max(e.last_used_at) as last_used_at
                 from entitlements e
                where e.site = $1 and e.ticket = w.ticket and (e.zone is null or e.zone = $3)) r
            on w.valid_to > to_timestamp($6)
         where w.valid_to > to_timestamp($6)
        union all
        select max(ticket), 'active', false, false, null
          from (select ticket from tickets where site = $1 and ticket > $2 order by ticket limit $4) w) t

-- name: figures
-- One business day up to a moment: who passed, who was refused, what was paid and paid back.
select (select count(*) from passages where site = $1 and direction = 'entry'
           and booked_at >= to_timestamp($2) and booked_at < to_timestamp($3))::int as entries,
       (select count(*) from passages where site = $1 and direction = 'exit'
           and booked_at >= to_timestamp($2) and booked_at < to_timestamp($3))::int as exits,
       (select count(*) from scans where site = $1 and code <> 'ok'
           and booked_at >= to_timestamp($2) and booked_at < to_timestamp($3))::int as refused,
       (select count(*) from orders where site = $1
           and sold_at >= to_timestamp($2) and sold_at < to_timestamp($3))::int as orders,
       (select count(*) from orders o join tickets t on t.site = $1 and t.order_id = o.order_id
         where o.site = $1 and o.sold_at >= to_timestamp($2) and o.sold_at < to_timestamp($3)
           and t.state <> 'unpaid')::int as tickets,
       ((select coalesce(sum(p.tendered_cents - p.change_cents), 0)
           from orders o join payments p on p.site = $1 and p.order_id = o.order_id
          where o.site = $1 and o.sold_at >= to_timestamp($2) and o.sold_at < to_timestamp($3))
        - (select coalesce(sum(r.amount_cents), 0)
             from refund_steps s join refunds r on r.site = $1 and r.refund = s.refund
            where s.site = $1 and s.step = 'done'
              and s.booked_at >= to_timestamp($2) and s.booked_at < to_timestamp($3)))::bigint as sales_cents

-- name: of_lanes
select lane, count(*) filter (where direction = 'entry')::int as entries,
       count(*) filter (where direction = 'exit')::int as exits
  from passages where site = $1 and booked_at >= to_timestamp($2) group by lane order by lane

-- name: inside
select coalesce(sum(inside), 0)::int as inside from zones where site = $1 and zone <> 'outside'
