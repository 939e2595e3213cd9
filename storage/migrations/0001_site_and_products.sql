-- What the site is: brought in line with the site file whenever the ledger connects.
-- Every table is keyed by site first, so that one database can serve a group of sites.

create table sites (
    site                text primary key,
    name                text not null,
    timezone            text not null,
    business_day_start  time not null
);

-- One row per zone, `outside` included. `inside` and `held` (people who hold an open grant into the zone) move only in
-- the transaction that books a passage, a grant, an end or a calibration; the audit recomputes both.
create table zones (
    site          text not null references sites,
    zone          text not null,
    name          text not null,
    limit_people  int check (limit_people > 0),
    inside        int not null default 0,
    held          int not null default 0 check (held >= 0),
    primary key (site, zone)
);

-- People are conserved: whatever enters a zone has left another one, `outside` included.
create function zones_conserve_people() returns trigger language plpgsql as $$
declare
    total bigint;
begin
    select sum(inside) into total from zones where site = new.site;
    if total <> 0 then
        raise exception 'the zones of site % hold % people in sum instead of 0', new.site, total
            using errcode = 'check_violation';
    end if;
    return null;
end $$;

create constraint trigger zones_conserve_people after insert or update of inside on zones
    deferrable initially deferred for each row execute function zones_conserve_people();

-- A changed product becomes a new version; what was sold keeps the version it was sold as.
create table products (
    site           text not null references sites,
    product        text not null,
    version        int not null check (version > 0),
    name_zh        text not null,
    name_en        text not null,
    product_class  text not null,
    price_cents    bigint not null check (price_cents >= 0),
    zones          text[] not null check (cardinality(zones) > 0),
    pax            int not null check (pax > 0),
    uses           int not null check (uses >= 0),
    days           int not null check (days > 0),
    needs_face     boolean not null,
    min_gap_s      double precision not null check (min_gap_s >= 0),
    since          timestamptz not null default now(),
    primary key (site, product, version)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, tg_op using errcode = 'restrict_violation';
end $$;

create trigger append_only before update or delete on products
    for each row execute function refuse_change();
create trigger append_only_truncate before truncate on products
    for each statement execute function refuse_change();
