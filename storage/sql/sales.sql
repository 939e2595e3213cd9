-- name: orders
select o.channel, o.key, o.order_id, o.total_cents, o.change_cents
  from orders o join unnest($2::text[], $3::text[]) as wanted (channel, key) using (channel, key)
 where o.site = $1

-- name: tickets_of_orders
select t.order_id, t.ticket, t.pax, t.product, p.name_zh, p.name_en, p.product_class, p.zones, l.unit_price_cents,
       extract(epoch from t.valid_from)::float8 as valid_from, extract(epoch from t.valid_to)::float8 as valid_to,
       extract(epoch from t.slot_from)::float8 as slot_from, extract(epoch from t.slot_to)::float8 as slot_to, t.state,
       j.job
  from tickets t
  join order_lines l on l.site = $1 and l.order_id = t.order_id and l.line = t.line
  join products p on p.site = $1 and p.product = t.product and p.version = t.version
  left join print_jobs j on j.site = $1 and j.ticket = t.ticket
 where t.site = $1 and t.order_id = any ($2::bigint[])
 order by t.order_id, t.line, t.number

-- name: stopped_sales
select zone from zones where site = $1 and (sale_full or sale_stopped_until > to_timestamp($2::float8))

-- name: cards
select value_hash from credentials where site = $1 and kind = 'card' and value_hash = any ($2::bytea[])

-- name: print_jobs
select job from print_jobs where site = $1 and job = any ($2::bigint[])

-- name: insert_orders
insert into orders (site, order_id, channel, key, user_name, total_cents, change_cents, sold_at, supplement_of)
select $1, order_id, channel, key, user_name, total_cents, change_cents, to_timestamp(sold_at), supplement_of
  from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::float8[], $9::bigint[])
       as new (order_id, channel, key, user_name, total_cents, change_cents, sold_at, supplement_of)

-- name: insert_lines
insert into order_lines (site, order_id, line, product, version, quantity, unit_price_cents, visit_date, slot)
select $1, order_id, line, product, version, quantity, unit_price_cents, visit_date, slot
  from unnest($2::bigint[], $3::int[], $4::text[], $5::int[], $6::int[], $7::bigint[], $8::date[], $9::text[])
       as new (order_id, line, product, version, quantity, unit_price_cents, visit_date, slot)

-- name: insert_reservations
insert into reservations (site, order_id, pay_by, printer, changed_at)
select $1, order_id, to_timestamp(pay_by), printer, to_timestamp(changed_at)
  from unnest($2::bigint[], $3::float8[], $4::text[], $5::float8[]) as new (order_id, pay_by, printer, changed_at)

-- name: sell_preprinted
update preprinted p set state = 'sold', changed_at = to_timestamp(sold.at)
  from unnest($2::bigint[], $3::float8[]) as sold (ticket, at)
 where p.site = $1 and p.ticket = sold.ticket

-- name: known_orders
select order_id from orders where site = $1 and order_id = any ($2::bigint[])

-- name: insert_payments
insert into payments (site, order_id, payment, tender, tendered_cents, change_cents)
select $1, order_id, payment, tender, tendered_cents, change_cents
  from unnest($2::bigint[], $3::int[], $4::text[], $5::bigint[], $6::bigint[])
       as new (order_id, payment, tender, tendered_cents, change_cents)

-- name: insert_tickets
insert into tickets (site, ticket, order_id, line, number, product, version, pax, valid_from, valid_to, state, slot_from,
                     slot_to)
select $1, ticket, order_id, line, number, product, version, pax, to_timestamp(valid_from), to_timestamp(valid_to),
       state, to_timestamp(slot_from), to_timestamp(slot_to)
  from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::text[], $7::int[], $8::int[], $9::float8[],
              $10::float8[], $11::text[], $12::float8[], $13::float8[])
       as new (ticket, order_id, line, number, product, version, pax, valid_from, valid_to, state, slot_from, slot_to)

-- name: insert_entitlements
insert into entitlements (site, entitlement, ticket, rule, zone, sold)
select $1, entitlement, ticket, rule, zone, sold
  from unnest($2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::int[]) as new (entitlement, ticket, rule, zone, sold)

-- name: insert_credentials
insert into credentials (site, credential, ticket, kind, value_hash, tail)
select $1, credential, ticket, kind, value_hash, tail
  from unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::text[])
       as new (credential, ticket, kind, value_hash, tail)

-- name: insert_passes
insert into passes (site, ticket, holder_enc, template_enc, template_algorithm, enrolled_at)
select $1, ticket, holder_enc, template_enc, template_algorithm, to_timestamp(enrolled_at)
  from unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::float8[])
       as new (ticket, holder_enc, template_enc, template_algorithm, enrolled_at)

-- name: insert_print_jobs
insert into print_jobs (site, job, order_id, ticket, printer, created_at, changed_at)
select $1, job, order_id, ticket, printer, to_timestamp(created_at), to_timestamp(created_at)
  from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::float8[])
       as new (job, order_id, ticket, printer, created_at)

-- name: update_print_jobs
update print_jobs j set state = moved.state, detail = moved.detail, changed_at = to_timestamp(moved.at)
  from unnest($2::bigint[], $3::text[], $4::text[], $5::float8[]) as moved (job, state, detail, at)
 where j.site = $1 and j.job = moved.job
