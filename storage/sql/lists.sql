-- Lists for lane controllers (`protocols.lists`), built line by line where the data are: what leaves the database is
-- one text for each part. $1 is the site.

-- name: head
-- How far the books are, and the newest version that was told.
select greatest((select max(ledger_seq) from grants where site = $1),
                (select max(ledger_seq) from passages where site = $1),
                (select max(ledger_seq) from grant_ends where site = $1),
                (select max(ledger_seq) from calibrations where site = $1), 0) as ledger_seq,
       greatest((select max(change) from list_changes where site = $1), v.change, 0) as change,
       v.version, v.token, v.ledger_seq as told_seq, v.change as told_change, v.keys,
       extract(epoch from v.made_at)::float8 as made_at
  from (select 1) one
  left join (select * from list_versions where site = $1 order by version desc limit 1) v on true

-- name: newest
-- How far the list of changes is.
select coalesce(max(change), 0) as change from list_changes where site = $1

-- name: moved
-- The same, and whether one of those behind $2 is of something that was there before: a ticket whose number is below $3,
-- or what every list carries (ticket 0).
select coalesce(max(change), $2) as change, coalesce(bool_or(ticket < $3), false) as older
  from list_changes where site = $1 and change > $2

-- name: known
select ledger_seq, change, extract(epoch from made_at)::float8 as made_at, keys
  from list_versions where site = $1 and version = $2 and token = $3

-- name: tell
insert into list_versions (site, version, token, ledger_seq, change, keys, made_at)
values ($1, $2, $3, $4, $5, $6, to_timestamp($7))

-- name: forget
-- Versions so old that their lanes get a whole list, but never the newest, behind which the numbers go on; and what had
-- changed before all that stay.
with gone as (
    delete from list_versions
     where site = $1 and made_at < to_timestamp($2)
       and version < (select max(version) from list_versions where site = $1)
)
delete from list_changes
 where site = $1
   and change <= (select min(change) from list_versions
                   where site = $1 and (made_at >= to_timestamp($2)
                                        or version = (select max(version) from list_versions where site = $1)))

-- name: products
select string_agg(json_build_array('p', product || '/' || version, product, version, name_zh, name_en, product_class,
                                   pax, rules::text)::text, E'\n' order by product, version) as lines
  from products where site = $1

-- name: changed
-- Tickets, in the order of their numbers, that a list of one version ($2, $3: ledger_seq and change; $6: until when it
-- reached) must hear of to become another one ($4, $5; $7). $8: they are behind this one; $9: so many; $10: products
-- that need another one used on the same order.
with moved as (
    select g.ticket from grants g where g.site = $1 and g.ledger_seq > $2 and g.ledger_seq <= $4
    union
    select g.ticket from passages p join grants g on g.site = $1 and g.grant_id = p.grant_id
     where p.site = $1 and p.ledger_seq > $2 and p.ledger_seq <= $4
    union
    select g.ticket from grant_ends e join grants g on g.site = $1 and g.grant_id = e.grant_id
     where e.site = $1 and e.ledger_seq > $2 and e.ledger_seq <= $4
    union
    select ticket from list_changes where site = $1 and change > $3 and change <= $5 and ticket <> 0
    union
    select ticket from tickets
     where site = $1 and valid_from >= to_timestamp($6) and valid_from < to_timestamp($7)
), wider as (
    select ticket from moved
    union
    select other.ticket
      from moved join tickets t on t.site = $1 and t.ticket = moved.ticket
      join tickets other on other.site = $1 and other.order_id = t.order_id
     where cardinality($10::text[]) > 0 and other.product = any ($10::text[])
)
select ticket from wider where ticket > $8 order by ticket limit $9

-- name: page
-- Tickets that are good at $2 or will be before $3, behind (valid_to, ticket) = ($4 in microseconds, $5), $6 of them.
select ticket, (extract(epoch from valid_to) * 1000000)::bigint as end_us
  from tickets
 where site = $1 and valid_to > to_timestamp($2)
   and (valid_to, ticket) > (timestamptz 'epoch' + $4::bigint * interval '1 microsecond', $5::bigint)
   and valid_from < to_timestamp($3)
 order by valid_to, ticket
 limit $6

-- name: unsold
-- Codes that were printed in advance and open nothing, behind number $2, $3 of them.
select string_agg(json_build_array('b', ticket, state)::text, E'\n' order by ticket) as lines, count(*) as items,
       max(ticket) as last
  from (select ticket, state from preprinted
         where site = $1 and ticket > $2 and state <> 'sold' order by ticket limit $3) codes

-- name: lines
-- Everything that a lane needs of these tickets ($2) that end after $3 and begin before $4. $5: the business day; $6:
-- products that need another one.
with meant as materialized (
    select t.* from unnest($2::bigint[]) as w (ticket) join tickets t on t.site = $1 and t.ticket = w.ticket
     where t.valid_to > to_timestamp($3) and t.valid_from < to_timestamp($4)
), said as (
    select t.ticket, 0 as place, json_build_array(
        't', t.ticket, t.product, t.version, t.state,
        coalesce((select c.state from credentials c
                   where c.site = $1 and c.ticket = t.ticket and c.kind = 'code' limit 1), 'void'),
        extract(epoch from t.valid_from)::float8, extract(epoch from t.valid_to)::float8,
        extract(epoch from t.slot_from)::float8, extract(epoch from t.slot_to)::float8,
        encode(substr(t.holder_hash, 1, 16), 'hex'),
        exists (select from passes f where f.site = $1 and f.ticket = t.ticket and f.template_enc is not null),
        case when t.product = any ($6::text[])
             then (select coalesce(json_agg(distinct m.product), '[]')
                     from tickets m
                     join entitlements u on u.site = $1 and u.ticket = m.ticket and u.day = $5::date and u.used_day > 0
                    where m.site = $1 and m.order_id = t.order_id and m.ticket <> t.ticket)
             else '[]' end,
        (select coalesce(json_agg(json_build_array(
                    e.entitlement, e.rule, e.zone, e.sold, e.redeemed, e.held, e.refunded, e.reserved_refund,
                    case when e.set_aside = 0 then 0
                         else greatest(0, e.set_aside - (select coalesce(sum(u.redeemed + u.held), 0)
                                                           from personal_uses u
                                                          where u.site = $1 and u.entitlement = e.entitlement)) end,
                    e.day, e.used_day, e.reentries_day, e.reentries_held, e.out_day,
                    extract(epoch from e.first_used_at)::float8, extract(epoch from e.last_used_at)::float8,
                    e.last_used_lane, extract(epoch from e.last_exit_at)::float8) order by e.entitlement), '[]')
           from entitlements e where e.site = $1 and e.ticket = t.ticket))::text as line
      from meant t
    union all
    select c.ticket, 1, json_build_array(
        'c', c.kind || '/' || encode(substr(c.value_hash, 1, 16), 'hex') || '/' || c.ticket, c.credential, c.ticket,
        c.state, c.issue_index, c.personal,
        case when c.personal
             then (select coalesce(json_agg(json_build_array(u.entitlement, u.redeemed, u.held)), '[]')
                     from personal_uses u where u.site = $1 and u.credential = c.credential)
             else '[]' end)::text
      from meant t cross join lateral (  -- ticket by ticket: never a scan of all credentials for each part
               select * from credentials where site = $1 and ticket = t.ticket and kind <> 'code' offset 0) c
    union all
    select p.ticket, 2, json_build_array('b', p.ticket, p.state)::text
      from unnest($2::bigint[]) as w (ticket) join preprinted p on p.site = $1 and p.ticket = w.ticket
)
select string_agg(line, E'\n' order by ticket, place) as lines, count(*) as items from said
