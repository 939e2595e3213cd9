-- name: cases
-- $2 which: 'waiting', 'all' or a state; $3 at most; $4 one case, or null.
select c.case_id, c.kind, c.lane, c.severity, c.detail, extract(epoch from c.opened_at)::float8 as opened_at, s.state,
       coalesce(a.detail, '') as assigned_to
  from cases c
  left join lateral (select detail from case_notes n
                      where n.site = $1 and n.case_id = c.case_id and n.what = 'assigned' order by n.note desc limit 1) a
       on true
 cross join lateral (
       select case when c.state <> 'open' then c.state
                   when coalesce(a.detail, '') <> '' then 'assigned'
                   when exists (select from case_notes n where n.site = $1 and n.case_id = c.case_id
                                   and n.what in ('acknowledged', 'assigned')) then 'acknowledged'
                   else 'open' end as state) s
 where c.site = $1
   and ($4::bigint is null or c.case_id = $4)
   and ($2 = 'all' or s.state = $2 or ($2 = 'waiting' and c.state = 'open'))
 order by c.opened_at desc, c.case_id desc
 limit $3

-- name: case_notes
select case_id, extract(epoch from at)::float8 as at, user_name, what, detail
  from case_notes
 where site = $1 and case_id = any ($2::bigint[])
 order by note

-- name: ticket_of
-- The ticket of a credential, by the keyed hash of its value, whichever of these kinds it is.
select c.ticket
  from unnest($2::text[], $3::bytea[]) as asked (kind, value_hash)
  join credentials c on c.site = $1 and c.kind = asked.kind and c.value_hash = asked.value_hash
 order by c.credential desc
 limit 1

-- name: history
-- Scans of a ticket's credentials, with what came of those that were granted.
select extract(epoch from s.booked_at)::float8 as at, case s.code when 'ok' then 'admitted' else 'refused' end as kind,
       s.lane, s.code, s.grant_id, 0 as people
  from credentials c
  join scans s on s.site = $1 and s.credential_hash = c.value_hash
 where c.site = $1 and c.ticket = any ($2::bigint[])
union all
select extract(epoch from min(p.booked_at))::float8, 'passage', p.lane, p.direction, p.grant_id, count(*)::int
  from credentials c
  join scans s on s.site = $1 and s.credential_hash = c.value_hash and s.grant_id is not null
  join passages p on p.site = $1 and p.grant_id = s.grant_id
 where c.site = $1 and c.ticket = any ($2::bigint[])
 group by p.lane, p.direction, p.grant_id
 order by at desc
 limit $3
