-- name: insert_cases
insert into cases (site, key, kind, lane, severity, detail, opened_at, booked_at)
select $1, key, kind, lane, severity, detail, to_timestamp(opened_at), to_timestamp(booked_at)
  from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[])
       as new (key, kind, lane, severity, detail, opened_at, booked_at)
on conflict (site, key) do nothing

-- name: resolve_cases
update cases set state = 'resolved', resolved_at = to_timestamp($3)
 where site = $1 and key = any ($2::text[]) and state = 'open'

-- name: insert_case_notes
insert into case_notes (site, case_id, at, user_name, what, detail)
select $1, case_id, to_timestamp(at), user_name, what, detail
  from unnest($2::bigint[], $3::float8[], $4::text[], $5::text[], $6::text[])
       as new (case_id, at, user_name, what, detail)

-- name: close_cases
update cases c set state = 'closed', resolved_at = to_timestamp(new.at)
  from (select case_id, min(at) as at from unnest($2::bigint[], $3::float8[]) as given (case_id, at) group by 1) new
 where c.site = $1 and c.case_id = new.case_id and c.state <> 'closed'

-- name: insert_incidents
insert into incidents (site, incident, started_at)
select $1, incident, to_timestamp(min(noted_at))
  from unnest($2::bigint[], $3::float8[]) as new (incident, noted_at)
 group by incident
on conflict (site, incident) do nothing

-- name: insert_notes
insert into incident_notes (site, incident, seq, noted_at, kind, lane, user_name, detail)
select $1, incident, seq, to_timestamp(noted_at), kind, lane, user_name, detail
  from unnest($2::bigint[], $3::bigint[], $4::float8[], $5::text[], $6::text[], $7::text[], $8::text[])
       as new (incident, seq, noted_at, kind, lane, user_name, detail)
on conflict (site, incident, seq) do nothing

-- name: insert_audit
insert into audit_log (site, seq, at, user_name, role, action, subject, reason, prev_hash, hash)
select $1, seq, timestamptz 'epoch' + at_us * interval '1 microsecond', user_name, role, action, subject, reason,
       prev_hash, hash
  from unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
              $10::bytea[])
       as new (seq, at_us, user_name, role, action, subject, reason, prev_hash, hash)
