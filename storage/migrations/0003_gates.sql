-- What happened at the gates. `ledger_seq` is one order over grants, passages, ends and calibrations: the order in
-- which they were decided and committed, so that the audit can play the books again.

create table grants (
    site             text not null,
    grant_id         bigint not null,
    ledger_seq       bigint not null,
    lane             text not null,
    device           text not null,
    nonce            text not null check (nonce <> ''),
    ticket           bigint not null,
    entitlement      bigint not null,
    product_class    text not null,
    from_zone        text not null,
    to_zone          text not null,
    pax              int not null check (pax > 0),
    remaining        int not null,
    ttl_s            double precision not null check (ttl_s > 0),
    zone_limit       int,  -- as it stood when this was granted
    device_at        timestamptz not null,
    granted_at       timestamptz not null,
    counter_epoch    text,
    counter_entries  bigint,
    counter_exits    bigint,
    primary key (site, grant_id),
    unique (site, ledger_seq),
    unique (site, device, nonce),    -- the same scan is the same grant
    unique (site, grant_id, lane),   -- so that only its own lane can use or end it
    unique (site, grant_id, entitlement),
    foreign key (site, entitlement) references entitlements,
    foreign key (site, from_zone) references zones,
    foreign key (site, to_zone) references zones
);
create index grants_by_lane_nonce on grants (site, lane, nonce);
create index grants_of_entitlement on grants (site, entitlement);

-- The working set of open grants; can be rebuilt from grants, passages and ends.
create table holds (
    site        text not null,
    grant_id    bigint not null,
    lane        text not null,
    pax         int not null,
    passed      int not null default 0,
    expires_at  timestamptz not null,
    unresolved  boolean not null default false,
    check (passed >= 0 and passed <= pax),
    primary key (site, grant_id),
    foreign key (site, grant_id, lane) references grants (site, grant_id, lane)
) with (fillfactor = 50);
create index holds_of_lane on holds (site, lane);

-- The lane's own statement that a grant is over: `passed` as booked here, `said` as the lane counted.
create table grant_ends (
    site        text not null,
    grant_id    bigint not null,
    ledger_seq  bigint not null,
    lane        text not null,
    passed      int not null check (passed >= 0),
    said        int not null check (said >= 0),
    why         text not null,
    device_at   timestamptz not null,
    booked_at   timestamptz not null,
    primary key (site, grant_id),
    unique (site, ledger_seq),
    foreign key (site, grant_id, lane) references grants (site, grant_id, lane)
);

-- A lane gave up on a scan before it had an answer: whatever comes for that nonce later opens nothing.
create table abandoned_scans (
    site       text not null references sites,
    lane       text not null,
    nonce      text not null check (nonce <> ''),
    device     text not null,
    why        text not null,
    booked_at  timestamptz not null,
    primary key (site, lane, nonce)
);

-- One person each; the primary key is what makes a message that is sent again the same person.
create table passages (
    site        text not null,
    device      text not null,
    boot        text not null,
    direction   text not null check (direction in ('entry', 'exit')),
    seq         bigint not null,
    ledger_seq  bigint not null,
    lane        text not null,
    kind        text not null check (kind in ('granted', 'late', 'exit', 'tailgate', 'forced', 'reverse', 'free',
                                              'emergency', 'staff', 'unattended')),
    grant_id    bigint,
    from_zone   text not null,
    to_zone     text not null,
    device_at   timestamptz not null,
    booked_at   timestamptz not null,
    check ((kind in ('granted', 'late')) = (grant_id is not null)),
    primary key (site, device, boot, direction, seq),
    unique (site, ledger_seq),
    foreign key (site, grant_id, lane) references grants (site, grant_id, lane),
    foreign key (site, from_zone) references zones,
    foreign key (site, to_zone) references zones
);
create index passages_of_grant on passages (site, grant_id) where grant_id is not null;
create index passages_of_lane on passages (site, lane, booked_at);

-- One use of a right by one person. At a lane its key is that of the passage, so it is booked with the passage or not
-- at all, and once.
create table redemptions (
    site         text not null,
    device       text not null,
    boot         text not null,
    direction    text not null,
    seq          bigint not null,
    entitlement  bigint not null,
    grant_id     bigint not null,
    pax          int not null default 1 check (pax = 1),
    booked_at    timestamptz not null,
    primary key (site, device, boot, direction, seq),
    foreign key (site, device, boot, direction, seq) references passages,
    foreign key (site, grant_id, entitlement) references grants (site, grant_id, entitlement)
);
create index redemptions_of_entitlement on redemptions (site, entitlement);

-- Every scan and what came of it. `code` is `ok` or a refusal code.
create table scans (
    site             text not null references sites,
    scan             bigint generated always as identity,
    lane             text not null,
    device           text not null,
    nonce            text not null,
    kind             text not null,
    credential_hash  bytea not null,
    code             text not null check (code <> ''),
    grant_id         bigint,
    device_at        timestamptz not null,
    booked_at        timestamptz not null,
    check ((code = 'ok') = (grant_id is not null)),
    primary key (site, scan)
);
create index scans_of_credential on scans (site, credential_hash, booked_at);

-- A count corrected by people: always a pair, `delta` to the zone and `-delta` to `outside`.
create table calibrations (
    site         text not null,
    calibration  bigint not null,
    ledger_seq   bigint not null,
    zone         text not null,
    against      text not null default 'outside' check (against = 'outside'),
    delta        int not null check (delta <> 0),
    reason       text not null check (reason <> ''),
    user_name    text not null check (user_name <> ''),
    booked_at    timestamptz not null,
    check (zone <> against),
    primary key (site, calibration),
    unique (site, ledger_seq),
    foreign key (site, zone) references zones,
    foreign key (site, against) references zones (site, zone)
);

-- What a board's counters showed when an epoch was first seen: nobody's passages.
create table counter_baselines (
    site       text not null references sites,
    device     text not null,
    epoch      text not null,
    lane       text not null,
    entries    bigint not null check (entries >= 0),
    exits      bigint not null check (exits >= 0),
    booked_at  timestamptz not null,
    primary key (site, device, epoch)
);

create trigger append_only before update or delete on grants for each row execute function refuse_change();
create trigger append_only_truncate before truncate on grants for each statement execute function refuse_change();
create trigger append_only before update or delete on grant_ends for each row execute function refuse_change();
create trigger append_only_truncate before truncate on grant_ends for each statement execute function refuse_change();
create trigger append_only before update or delete on abandoned_scans for each row execute function refuse_change();
create trigger append_only before update or delete on passages for each row execute function refuse_change();
create trigger append_only_truncate before truncate on passages for each statement execute function refuse_change();
create trigger append_only before update or delete on redemptions for each row execute function refuse_change();
create trigger append_only_truncate before truncate on redemptions for each statement execute function refuse_change();
create trigger append_only before update or delete on scans for each row execute function refuse_change();
create trigger append_only_truncate before truncate on scans for each statement execute function refuse_change();
create trigger append_only before update or delete on calibrations for each row execute function refuse_change();
create trigger append_only before update or delete on counter_baselines for each row execute function refuse_change();
