-- What people did and what waits for people: cases, evacuations, the audit log.

create table cases (
    site         text not null references sites,
    case_id      bigint generated always as identity,
    key          text not null check (key <> ''),
    kind         text not null check (kind <> ''),
    lane         text not null,
    severity     text not null,
    detail       text not null,
    state        text not null default 'open' check (state in ('open', 'resolved', 'closed')),
    opened_at    timestamptz not null,
    booked_at    timestamptz not null,
    resolved_at  timestamptz,
    check ((state = 'open') = (resolved_at is null)),
    primary key (site, case_id),
    unique (site, key)  -- whatever is reported twice is one case
);
create index cases_open on cases (site, opened_at) where state = 'open';

create table incidents (
    site        text not null references sites,
    incident    bigint not null,
    started_at  timestamptz not null,
    primary key (site, incident)
);

create table incident_notes (
    site       text not null,
    incident   bigint not null,
    seq        bigint not null check (seq >= 0),
    noted_at   timestamptz not null,
    kind       text not null check (kind <> ''),
    lane       text not null,
    user_name  text not null,
    detail     text not null,
    primary key (site, incident, seq),
    foreign key (site, incident) references incidents
);

-- Who did what. `hash` is SHA-256 over the previous hash and the row, so that no row can be changed, taken out or
-- slipped in without breaking the chain; `prev_hash` is unique, so that it cannot fork.
create table audit_log (
    site       text not null references sites,
    seq        bigint not null check (seq > 0),
    at         timestamptz not null,
    user_name  text not null check (user_name <> ''),
    role       text not null,
    action     text not null check (action <> ''),
    subject    text not null,
    reason     text not null,
    prev_hash  bytea not null check (octet_length(prev_hash) = 32),
    hash       bytea not null check (octet_length(hash) = 32),
    primary key (site, seq),
    unique (site, prev_hash),
    unique (site, hash)
);

-- The bytes that are hashed: every field with its length before it, so that no two rows read the same.
create function audit_hash(prev bytea, seq bigint, at timestamptz, variadic words text[]) returns bytea
    language sql stable strict parallel safe as $$
    select sha256(prev || convert_to(
        seq || ':' || (extract(epoch from at) * 1000000)::bigint || ':' ||
        (select string_agg(char_length(word) || ':' || word, '' order by place)
           from unnest(words) with ordinality as w (word, place)), 'UTF8'))
$$;

create trigger append_only before update or delete on incident_notes for each row execute function refuse_change();
create trigger append_only_truncate before truncate on incident_notes
    for each statement execute function refuse_change();
create trigger append_only before update or delete on audit_log for each row execute function refuse_change();
create trigger append_only_truncate before truncate on audit_log for each statement execute function refuse_change();
