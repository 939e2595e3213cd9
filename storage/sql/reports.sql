-- name: points
-- $2 first, $3 last, $4 the step in seconds. Passages by lane, because that is what is indexed.
with steps as (
    select generate_series(to_timestamp($2::float8), to_timestamp($3::float8) - interval '1 ms', make_interval(secs => $4::float8)) as at
), passed as (
    select width_bucket(extract(epoch from p.booked_at)::float8, $2::float8, $3::float8, $5::int) as step,
           count(*) filter (where p.direction = 'entry') as entries, count(*) filter (where p.direction = 'exit') as exits
      from unnest($6::text[]) as lane(id)
      join passages p on p.site = $1 and p.lane = lane.id and p.booked_at >= to_timestamp($2::float8) and p.booked_at < to_timestamp($3::float8)
     group by 1
)
select extract(epoch from s.at)::float8 as at, coalesce(p.entries, 0)::int as entries, coalesce(p.exits, 0)::int as exits
  from (select at, row_number() over (order by at) as step from steps) s
  left join passed p on p.step = s.step
 order by s.at

-- name: newest_scan
select coalesce(max(scan), 0)::bigint from scans where site = $1

-- name: refusals
-- Scans are numbered in the order in which they came: from $4 on, none older is looked at.
select lane, code, width_bucket(extract(epoch from booked_at)::float8, $2::float8, $3::float8, $5::int)::int as step, count(*)::int as count
  from scans
 where site = $1 and scan > $4::bigint and booked_at >= to_timestamp($2::float8) and booked_at < to_timestamp($3::float8) and code <> 'ok'
 group by lane, code, step

-- name: oldest_looked_at
select extract(epoch from booked_at)::float8 from scans where site = $1 and scan > $2::bigint order by scan limit 1

-- name: lanes
with passed as (
    select p.lane, p.direction, p.grant_id, p.booked_at
      from unnest($4::text[]) as lane(id)
      join passages p on p.site = $1 and p.lane = lane.id and p.booked_at >= to_timestamp($2::float8) and p.booked_at < to_timestamp($3::float8)
), minutes as (
    select lane, max(people) as busiest
      from (select lane, date_trunc('minute', booked_at), count(*) as people from passed group by 1, 2) m group by lane
), first_passages as (
    select lane, grant_id, min(booked_at) as at from passed where grant_id is not null group by lane, grant_id
), paces as (
    select f.lane, percentile_cont(0.5) within group (order by extract(epoch from f.at - g.granted_at)::float8) as median_s
      from first_passages f join grants g on g.site = $1 and g.grant_id = f.grant_id
     group by f.lane
)
select lane.id as lane, (select count(*) from passed p where p.lane = lane.id and p.direction = 'entry')::int as entries,
       (select count(*) from passed p where p.lane = lane.id and p.direction = 'exit')::int as exits,
       coalesce(m.busiest, 0)::int as busiest, c.median_s::float8 as median_s
  from unnest($4::text[]) as lane(id)
  left join minutes m on m.lane = lane.id
  left join paces c on c.lane = lane.id
