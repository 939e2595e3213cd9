-- How many people may be where: stops of entry and sale with their hysteresis, staff apart, the close of the day.

-- `stop_at`, `resume_at` and the same for sale come from the site file (null: at the limit, and no hysteresis);
-- `entry_full` and `sale_full` are where the hysteresis stands. `*_until` are stops and modes that people ordered, with their
-- latest end. `staff` of the people inside are staff and contractors. `entered` are first entries of visitors on `day`.
alter table zones
    add column stop_at               int check (stop_at > 0),
    add column resume_at             int check (resume_at >= 0),
    add column sale_stop_at          int check (sale_stop_at > 0),
    add column sale_resume_at        int check (sale_resume_at >= 0),
    add column day_limit             int check (day_limit > 0),
    add column reentry_when_stopped  boolean not null default true,
    add column staff_counts          boolean not null default false,
    add column entry_full            boolean not null default false,
    add column sale_full             boolean not null default false,
    add column staff                 int not null default 0,
    add column day                   date,
    add column entered               int not null default 0 check (entered >= 0),
    add column entry_stopped_until   timestamptz,
    add column sale_stopped_until    timestamptz,
    add column one_for_one_until     timestamptz;

-- What people stopped and allowed again, and who. `until` null: from now on it is allowed again.
create table zone_stops (
    site       text not null,
    stop       bigint not null,
    zone       text not null,
    what       text not null check (what in ('entry', 'sale', 'one_for_one')),
    until      timestamptz,
    user_name  text not null check (user_name <> ''),
    reason     text not null check (reason <> ''),
    booked_at  timestamptz not null,
    primary key (site, stop),
    foreign key (site, zone) references zones
);
create trigger append_only before update or delete on zone_stops for each row execute function refuse_change();
create trigger append_only_truncate before truncate on zone_stops for each statement execute function refuse_change();

-- A calibration corrects the count of people, of the staff among them, or both; `key` makes it once only.
alter table calibrations
    add column staff int not null default 0,
    add column key text check (key <> ''),
    drop constraint calibrations_delta_check,
    add constraint calibrations_correct_something check (delta <> 0 or staff <> 0);
create unique index calibrations_once on calibrations (site, key) where key is not null;
create trigger append_only_truncate before truncate on calibrations for each statement execute function refuse_change();
create trigger append_only_truncate before truncate on abandoned_scans
    for each statement execute function refuse_change();
create trigger append_only_truncate before truncate on counter_baselines
    for each statement execute function refuse_change();

-- Each business day is closed once: who was left in a zone on paper is written off as a calibration.
create table day_closes (
    site       text not null references sites,
    day        date not null,
    residual   int not null,
    booked_at  timestamptz not null,
    primary key (site, day)
);
create trigger append_only before update or delete on day_closes for each row execute function refuse_change();
create trigger append_only_truncate before truncate on day_closes for each statement execute function refuse_change();
