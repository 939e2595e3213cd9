-- What is known of an evacuation afterwards. $1 is the site.

-- name: incidents
select i.incident,
       extract(epoch from i.started_at)::float8 as started_at,
       extract(epoch from (select min(n.noted_at) from incident_notes n
                            where n.site = i.site and n.incident = i.incident and n.kind = 'restored'))::float8 as ended_at
  from incidents i
 where i.site = $1 and i.incident <> 0
 order by i.started_at desc, i.incident desc
 limit 100

-- name: incident_notes
select extract(epoch from noted_at)::float8 as at, kind, lane, user_name, detail
  from incident_notes
 where site = $1 and incident = $2
 order by noted_at, seq
 limit 20000

-- People through the lanes while it lasted, by minute. $2 and $3: from when to when.
-- name: incident_passages
select lane, direction, from_zone, to_zone,
       extract(epoch from date_trunc('minute', device_at))::float8 as minute, count(*)::int as people
  from passages
 where site = $1 and device_at >= to_timestamp($2) and device_at < to_timestamp($3)
 group by lane, direction, from_zone, to_zone, date_trunc('minute', device_at)
 order by 5, 1, 2
 limit 100000

-- Whom it concerned: let in, and broken off by it; turned away while it lasted; inside on that day before it began.
-- name: incident_tickets
select t.ticket, t.order_id, t.product, t.pax, a.why, a.lane, extract(epoch from a.at)::float8 as at
  from (select distinct on (ticket) ticket, why, lane, at
          from (select g.ticket, 'broken_off' as why, g.lane, e.device_at as at, 1 as rank
                  from grant_ends e join grants g on g.site = e.site and g.grant_id = e.grant_id
                 where e.site = $1 and e.why = 'emergency'
                   and e.device_at >= to_timestamp($2) - interval '1 minute' and e.device_at < to_timestamp($3)
                union all
                select c.ticket, 'turned_away', s.lane, s.device_at, 2
                  from scans s join credentials c on c.site = s.site and c.value_hash = s.credential_hash
                 where s.site = $1 and s.code = 'emergency_go' and octet_length(s.credential_hash) > 0
                   and s.device_at >= to_timestamp($2) and s.device_at < to_timestamp($3)
                union all
                select g.ticket, 'entered_before', g.lane, g.granted_at, 3
                  from grants g join grant_ends e on e.site = g.site and e.grant_id = g.grant_id and e.passed > 0
                 where g.site = $1 and g.granted_at >= to_timestamp($2) - interval '16 hours'
                   and g.granted_at < to_timestamp($2)) each
         order by ticket, rank, at) a
  join tickets t on t.site = $1 and t.ticket = a.ticket
 order by a.why, t.ticket
 limit 200000
