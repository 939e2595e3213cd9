"""`paifang evacuation`: what happened in an evacuation, as a page that can be printed and kept."""

from __future__ import annotations

import datetime as dt
import html
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
import msgspec

from paifang._command import DATA, DEMO_SITE, JSON, carry_out, load_site, open_database, show
from paifang.site import SiteFile

if TYPE_CHECKING:  # the command line starts without it
    from storage.incidents import Record

KINDS = {
    "triggered": ("触发", "Triggered"),
    "adopted": ("接管", "Taken over"),
    "resumed": ("服务器重启后继续", "Went on after a restart"),
    "scope": ("范围", "Scope"),
    "widened": ("范围扩大", "Widened"),
    "became_real": ("演练转为真实", "The drill became real"),
    "inside": ("触发时在园", "Inside at the trigger"),
    "acknowledged": ("已确认打开", "Sensed open"),
    "counted": ("人工计数", "Counted by hand"),
    "out": ("离园统计", "Counted out"),
    "restore_requested": ("申请恢复", "Restore asked for"),
    "restored": ("恢复", "Restored"),
    "rearmed": ("通道复位", "Re-armed"),
}
WHY = {
    "broken_off": ("验票后被疏散中断", "admission broken off by the evacuation"),
    "turned_away": ("疏散期间未能入园", "turned away during the evacuation"),
    "entered_before": ("当日已入园", "had entered on that day"),
}
RULE_ZH = "建议：被中断与未能入园的票，7 日内可免费改期使用或全额退款；当日已入园的票按园区规定补偿。"
RULE_EN = (
    "Suggested: tickets that were broken off or turned away stay valid for 7 days or are refunded in full; tickets of "
    "people who had entered are compensated by the park's own rule."
)

_STYLE = """
body{font:15px/1.5 system-ui,"Noto Sans CJK SC",sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#111}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}.sub{color:#555;margin:0 0 1.5rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;
vertical-align:top}th{border-bottom:2px solid #111;font-weight:600}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums}.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem}
.figures div{border:1px solid #ddd;border-radius:.4rem;padding:.6rem .8rem}.figures b{display:block;font-size:1.5rem}
.drill{display:inline-block;border:2px solid #b45309;color:#b45309;padding:0 .5rem;border-radius:.3rem}
.sign{display:grid;grid-template-columns:1fr 1fr;gap:3rem;margin-top:4rem}.sign p{border-top:1px solid #111;
padding-top:.3rem}@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""


@click.group("evacuation")
def evacuation() -> None:
    """What happened in evacuations.  疏散记录。  (`paifang evacuate` opens the gates.)"""


@evacuation.command("list")
@click.argument("site", type=click.Path(path_type=Path), required=False, default=DEMO_SITE)
@DATA
@JSON
def list_incidents(site: Path, data: Path, as_json: bool) -> None:
    """Evacuations and drills that are on record, newest first.  疏散列表。"""
    from storage.incidents import incidents

    sitefile = load_site(site)

    async def go() -> Any:
        async with open_database(sitefile, data, existing=True) as dsn:
            return await incidents(dsn, sitefile.site.id)

    found = carry_out(go)
    if as_json:
        show(msgspec.to_builtins(found), True)
        return
    zone = ZoneInfo(sitefile.site.timezone)
    for each in found:
        ended = _time(each.ended_at, zone) if each.ended_at is not None else "尚未恢复 not restored"
        click.echo(f"{each.incident}  {_time(each.started_at, zone)}  {ended}")
    if not found:
        click.echo("没有疏散记录 no evacuation on record")


@evacuation.command("report")
@click.argument("site", type=click.Path(path_type=Path), required=False, default=DEMO_SITE)
@DATA
@click.option("--incident", type=int, default=None, help="Which; without it, the latest.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write the page here.")
@JSON
def report(site: Path, data: Path, incident: int | None, out: Path | None, as_json: bool) -> None:
    """One evacuation as a page to print: timeline, lanes, people counted out, tickets concerned.  疏散报告。"""
    from storage.incidents import record

    sitefile = load_site(site)

    async def go() -> Record:
        async with open_database(sitefile, data, existing=True) as dsn:
            found: Record = await record(dsn, sitefile.site.id, incident)
            return found

    found = carry_out(go)
    if as_json:
        show(msgspec.to_builtins(found), True)
        return
    text = page(found, sitefile)
    if out is None:
        click.echo(text)
    else:
        carry_out(lambda: out.write_text(text, encoding="utf-8"))
        click.echo(str(out))


def page(found: Record, site: SiteFile) -> str:
    """The whole page, complete in itself. Every text of others is escaped."""
    zone = ZoneInfo(site.site.timezone)
    names = {lane.id: lane.name for lane in site.lanes}
    incident = found.incident
    out, back = _people(found)
    restored = _time(incident.ended_at, zone) if incident.ended_at is not None else "尚未恢复 not restored yet"
    inside = next((note.detail for note in found.notes if note.kind == "inside"), "")
    figures = [
        ("离园 Out", str(out)),
        ("返回 Back in", str(back)),
        ("确认打开 Lanes sensed open", str(len({n.lane for n in found.notes if n.kind == "acknowledged"}))),
        ("涉及票 Tickets concerned", str(len(found.tickets))),
    ]
    parts = [
        "<!doctype html><html lang=zh><head><meta charset=utf-8>",
        f"<title>疏散报告 {incident.incident}</title><style>{_STYLE}</style></head><body>",
        f"<h1>疏散报告 Evacuation report</h1><p class=sub>{_e(site.site.name)} {_e(site.site.name_en)} · "
        f"No. {incident.incident}</p>",
        f"<p>{_time(incident.started_at, zone)} → {restored}"
        + (f"<br>触发时在园 {_e(inside)}" if inside else "")
        + "</p>",
        "<div class=figures>",
        *(f"<div>{_e(name)}<b>{_e(value)}</b></div>" for name, value in figures),
        "</div>",
        "<h2>经过 Timeline</h2><table><tr><th>时间 Time<th>事件 Event<th>通道 Lane<th>人员 Person<th>说明 Detail</tr>",
        *(
            f"<tr><td>{_time(note.at, zone)}<td>{_kind(note.kind)}<td>{_e(names.get(note.lane, note.lane))}"
            f"<td>{_e(note.user_name)}<td>{_e(note.detail)}</tr>"
            for note in found.notes
        ),
        "</table>",
        *_by_lane(found, names),
        *_tickets(found, names, zone),
        "<div class=sign><p>第一确认人 First person</p><p>第二确认人 Second person</p></div>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _people(found: Record) -> tuple[int, int]:
    """Out of the site and back in. A person who goes from one zone into another has not left."""
    out = sum(each.people for each in found.passages if each.to_zone == "outside")
    back = sum(each.people for each in found.passages if each.from_zone == "outside")
    return out, back


def _by_lane(found: Record, names: dict[str, str]) -> list[str]:
    lanes: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for each in found.passages:
        if each.to_zone == "outside":
            lanes[each.lane] += each.people
            peak[each.lane] = max(peak[each.lane], each.people)
    rows = [
        f"<tr><td>{_e(names.get(lane, lane))}<td class=n>{people}<td class=n>{peak[lane]}</tr>"
        for lane, people in lanes.most_common()
    ]
    head = "<table><tr><th>通道 Lane<th class=n>离园 Out<th class=n>最多每分钟 Most in a minute</tr>"
    return ["<h2>各通道离园 Out by lane</h2>", head, *rows, "</table>"]


def _tickets(found: Record, names: dict[str, str], zone: ZoneInfo) -> list[str]:
    head = (
        "<table><tr><th class=n>票 Ticket<th class=n>订单 Order<th>产品 Product<th class=n>人数 People"
        "<th>原因 Why<th>通道 Lane<th>时间 Time</tr>"
    )
    rows = [
        f"<tr><td class=n>{each.ticket}<td class=n>{each.order_id}<td>{_e(each.product)}<td class=n>{each.pax}"
        f"<td>{' '.join(WHY.get(each.why, (_e(each.why),)))}<td>{_e(names.get(each.lane, each.lane))}"
        f"<td>{_time(each.at, zone)}</tr>"
        for each in found.tickets
    ]
    rule = f"<p>{RULE_ZH}<br>{RULE_EN}</p>"
    return ["<h2>涉及的票 Tickets concerned</h2>", rule, head, *rows, "</table>"]


def _kind(kind: str) -> str:
    return " ".join(KINDS.get(kind, (_e(kind),)))


def _time(at: float, zone: ZoneInfo) -> str:
    try:
        return dt.datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # a clock that was far off
        return f"{at:.0f}"


def _e(text: str) -> str:
    return html.escape(text)
