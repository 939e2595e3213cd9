-- The gates' tables are written many rows at a time, and a foreign key looks at each row for itself: eleven of them were
-- a third of PostgreSQL's time. The same promises, kept by one look at all the rows that a statement adds.
-- What is looked at can neither be deleted nor be named anew, so that looking once is enough.

alter table grants drop constraint grants_site_from_zone_fkey;
alter table grants drop constraint grants_site_to_zone_fkey;
alter table grants drop constraint grants_site_entitlement_fkey;
alter table holds drop constraint holds_site_grant_id_lane_fkey;
alter table grant_ends drop constraint grant_ends_site_grant_id_lane_fkey;
alter table passages drop constraint passages_site_from_zone_fkey;
alter table passages drop constraint passages_site_to_zone_fkey;
alter table passages drop constraint passages_site_grant_id_lane_fkey;
alter table redemptions drop constraint redemptions_site_device_boot_direction_seq_fkey;
alter table redemptions drop constraint redemptions_site_grant_id_entitlement_fkey;
alter table scans drop constraint scans_site_fkey;
alter table tickets drop constraint tickets_site_at_zone_fkey;
alter table grants drop constraint grants_site_grant_id_lane_key;
alter table grants drop constraint grants_site_grant_id_entitlement_key;

create trigger kept before delete on zones for each row execute function refuse_change();
create trigger named_once before update of site, zone on zones for each row execute function refuse_change();
create trigger kept before delete on entitlements for each row execute function refuse_change();
create trigger named_once before update of site, entitlement on entitlements
    for each row execute function refuse_change();

create function grants_are_on_something() returns trigger language plpgsql as $$
begin
    if exists (select from added a
                where a.entitlement is not null
                  and not exists (select from entitlements e where e.site = a.site and e.entitlement = a.entitlement))
       or exists (select from (select site, from_zone as zone from added union select site, to_zone from added) a
                   where not exists (select from zones z where z.site = a.site and z.zone = a.zone))
    then
        raise exception 'a grant is on no right or between no zones'
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger grants_are_on_something after insert on grants referencing new table as added
    for each statement execute function grants_are_on_something();

create function passages_are_on_their_grant() returns trigger language plpgsql as $$
begin
    if exists (select from added a
                where a.grant_id is not null
                  and not exists (select from grants g where g.site = a.site and g.grant_id = a.grant_id
                                                         and g.lane = a.lane))
       or exists (select from (select site, from_zone as zone from added union select site, to_zone from added) a
                   where not exists (select from zones z where z.site = a.site and z.zone = a.zone))
    then
        raise exception 'a passage is on no grant of its lane or between no zones'
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger passages_are_on_their_grant after insert on passages referencing new table as added
    for each statement execute function passages_are_on_their_grant();

create function is_of_a_grant_of_its_lane() returns trigger language plpgsql as $$
begin
    if exists (select from added a
                where not exists (select from grants g where g.site = a.site and g.grant_id = a.grant_id
                                                         and g.lane = a.lane))
    then
        raise exception 'a row of % is on no grant of its lane', tg_table_name
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger ends_are_of_their_lane after insert on grant_ends referencing new table as added
    for each statement execute function is_of_a_grant_of_its_lane();
create trigger holds_are_of_their_lane after insert on holds referencing new table as added
    for each statement execute function is_of_a_grant_of_its_lane();

create function redemptions_are_passages() returns trigger language plpgsql as $$
begin
    if exists (select from added a
                where not exists (select from passages p where p.site = a.site and p.device = a.device
                                     and p.boot = a.boot and p.direction = a.direction and p.seq = a.seq))
       or exists (select from added a
                   where not exists (select from grants g where g.site = a.site and g.grant_id = a.grant_id
                                                         and g.entitlement = a.entitlement))
    then
        raise exception 'a redemption has no passage, or its grant is on another right'
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger redemptions_are_passages after insert on redemptions referencing new table as added
    for each statement execute function redemptions_are_passages();

create function tickets_are_somewhere() returns trigger language plpgsql as $$
begin
    if exists (select from (select distinct site, at_zone from seen where at_zone is not null) s
                where not exists (select from zones z where z.site = s.site and z.zone = s.at_zone))
    then
        raise exception 'a ticket is in no zone'
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger tickets_are_somewhere after insert on tickets referencing new table as seen
    for each statement execute function tickets_are_somewhere();
create trigger tickets_stay_somewhere after update on tickets referencing new table as seen
    for each statement execute function tickets_are_somewhere();

-- What moves with every visitor: room for the next version beside the last, so that no index is touched
alter table entitlements set (fillfactor = 70);
alter table tickets set (fillfactor = 80);
alter table zones set (fillfactor = 20);
