-- Promises about lanes that decided alone: what they let in is booked or is a case, and nothing of it is silent.

-- name: offline_grants_are_what_they_came_to
-- Booked or in conflict there is a grant of that scan at that lane, and one in conflict is over as it began.
select format('grant of %s by %s (%s): %s', o.nonce, o.lane, o.outcome,
              case when g.grant_id is null then 'there is none'
                   when o.outcome = 'conflict' and e.grant_id is null then 'it is open'
                   else format('grant %s of %s at %s on ticket %s', g.grant_id, g.nonce, g.lane, g.ticket) end)
  from offline_grants o
  left join grants g on g.site = $1 and g.grant_id = o.grant_id
  left join grant_ends e on e.site = $1 and e.grant_id = o.grant_id and e.why = 'never_opened' and e.passed = 0
 where o.site = $1 and o.outcome <> 'refused'
   and (g.grant_id is null or g.lane <> o.lane or g.device <> o.device or g.nonce <> o.nonce
        or g.ticket is distinct from o.ticket or g.pax <> o.pax or o.outcome = 'conflict' and e.grant_id is null)
 order by 1

-- name: journals_are_booked_up_to_their_mark
-- What a lane may forget is on disk, and nothing is on disk that it was not told of.
select format('journal %s of %s is booked up to %s, record %s is there', r.journal, r.device, coalesce(m.upto, 0),
              max(r.seq))
  from (select device, journal, seq from offline_grants where site = $1
        union all
        select device, boot, seq from offline_conflicts where site = $1) r
  left join upload_marks m on m.site = $1 and m.device = r.device and m.journal = r.journal
 group by r.device, r.journal, m.upto
having max(r.seq) > coalesce(m.upto, 0)
 order by 1

-- name: offline_conflicts_are_cases
-- Each person whom a lane let in alone without a right is a passage that used nothing, and a case that says the ticket.
select format('conflict %s/%s/%s/%s on ticket %s: %s', c.device, c.boot, c.direction, c.seq, c.ticket,
              case when r.seq is not null then 'it used a right' else 'no case' end)
  from offline_conflicts c
  join passages p on p.site = $1 and p.device = c.device and p.boot = c.boot and p.direction = c.direction
                 and p.seq = c.seq
  left join redemptions r on r.site = $1 and r.device = c.device and r.boot = c.boot and r.direction = c.direction
                         and r.seq = c.seq
 where c.site = $1
   and (r.seq is not null
        or not exists (select from cases k where k.site = $1
                          and k.key = concat_ws(':', case p.kind when 'late' then 'late_pass' else p.kind end, p.device,
                                                p.boot, p.direction, p.seq)
                          and k.kind in ('double_use', 'offline_wrong')
                          and (c.ticket is null or strpos(k.detail, c.ticket::text) > 0)
                          and strpos(k.detail, c.lane) > 0))
 order by 1

-- name: nobody_is_let_in_twice_in_silence
-- Whoever passed on a lane's own grant and used nothing is in the list of conflicts.
select format('passage %s/%s/%s/%s on grant %s of ticket %s used nothing and is no conflict', p.device, p.boot,
              p.direction, p.seq, p.grant_id, o.ticket)
  from offline_grants o
  join grants g on g.site = $1 and g.grant_id = o.grant_id and g.kind = 'entry'
  join passages p on p.site = $1 and p.grant_id = g.grant_id
 where o.site = $1 and o.outcome = 'conflict'
   and not exists (select from redemptions r where r.site = $1 and r.device = p.device and r.boot = p.boot
                      and r.direction = p.direction and r.seq = p.seq)
   and not exists (select from offline_conflicts c where c.site = $1 and c.device = p.device and c.boot = p.boot
                      and c.direction = p.direction and c.seq = p.seq)
 order by 1

-- name: list_versions_count_up
-- A later version of the lists holds no less than an earlier one, and none holds what is not in the books.
select format('version %s of the lists: up to %s and %s, the one before up to %s and %s', version, ledger_seq, change,
              seq_before, change_before)
  from (select version, ledger_seq, change, lag(ledger_seq) over story as seq_before,
               lag(change) over story as change_before
          from list_versions where site = $1 window story as (order by version)) told
 where ledger_seq < seq_before or change < change_before
union all
select format('version %s of the lists: up to %s, the books only up to %s', v.version, v.ledger_seq, books.upto)
  from list_versions v
 cross join (select greatest((select max(ledger_seq) from grants where site = $1),
                             (select max(ledger_seq) from passages where site = $1),
                             (select max(ledger_seq) from grant_ends where site = $1),
                             (select max(ledger_seq) from calibrations where site = $1), 0) as upto) books
 where v.site = $1 and v.ledger_seq > books.upto
 order by 1
