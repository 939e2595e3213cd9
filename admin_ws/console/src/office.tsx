// The office: find an order, hold and resume, refund, collect, undo an admission, replace a card.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { dateTime, yuan } from "./format";
import { pick, t, word, type Text } from "./i18n";
import { Icon } from "./icons";
import { call, type CallError, type Method } from "./rpc";
import { asCallError, may } from "./store";
import type { OrderView, RefundView, TicketView } from "./types";

const CODE_TAIL = 6; // characters of a paper's code that are shown; the rest opens a gate
const PLACES_MOST = 1000;
const REASON_MOST = 200; // characters, as the server takes them

const wanted = signal("");
const order = signal<OrderView | null>(null);
const searching = signal(false);
const problem = signal<CallError | null>(null);
const told = signal("");
/** Of the command whose outcome is not known: it is sent again under the same key. */
const lostKey = signal<{ of: string; key: string } | null>(null);

function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function find(number: number): Promise<void> {
  searching.value = true;
  try {
    const found = await call("office.find", { number });
    order.value = found.order === 0 ? null : found;
    if (found.order === 0) told.value = t("officeNothing");
  } catch (error) {
    problem.value = asCallError(error);
  } finally {
    searching.value = false;
  }
}

/** Carry a command out, say what came of it, and show the order as it then stands. */
async function command(what: string, number: number, send: (key: string) => Promise<string>): Promise<boolean> {
  const key = lostKey.value?.of === what ? lostKey.value.key : newKey();
  problem.value = null;
  told.value = "";
  try {
    told.value = await send(key);
    lostKey.value = null;
    await find(number);
    return true;
  } catch (error) {
    const failed = asCallError(error);
    lostKey.value = failed.lost ? { of: what, key } : null;
    problem.value = failed;
    return false;
  }
}

export function Office(): JSX.Element {
  const search = () => {
    const number = Number(wanted.value.trim());
    problem.value = null;
    told.value = "";
    if (Number.isSafeInteger(number) && number > 0) void find(number);
    else told.value = t("officeNumberOnly");
  };
  return (
    <div class="office">
      <form
        class="card inline"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          search();
        }}
      >
        <label>
          {t("officeNumber")}
          <input
            name="office-number"
            inputMode="numeric"
            value={wanted.value}
            autocomplete="off"
            onInput={(event) => (wanted.value = event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="primary" disabled={searching.value}>
          {t("officeFind")}
        </button>
      </form>
      {problem.value !== null && (
        <p class="error" role="alert" data-testid="office-problem" data-code={problem.value.code}>
          <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
          {problem.value.lost && <small> {t("officeRetry")}</small>}
        </p>
      )}
      {told.value !== "" && (
        <p class="good" role="status" data-testid="office-told">
          {told.value}
        </p>
      )}
      {order.value !== null && <Order found={order.value} />}
      {order.value === null && problem.value === null && told.value === "" && <p class="card muted hint">{t("officeHint")}</p>}
    </div>
  );
}

function Order({ found }: { found: OrderView }): JSX.Element {
  return (
    <>
      <section class="card" data-testid="office-order" data-order={found.order}>
        <h2>
          {t("order")} {found.order} · {word("order", found.state)}
        </h2>
        <p class="muted">
          {found.channel} · {found.user} · {dateTime(found.sold_at)}
          {found.supplement_of !== null && ` · ${t("officeSupplement", { n: found.supplement_of })}`}
          {found.pay_by !== null && found.state === "created" && ` · ${t("officePayBy", { at: dateTime(found.pay_by) })}`}
        </p>
        <p class="sum">
          <span>{t("total")}</span>
          <strong>{yuan(found.total_cents)}</strong>
        </p>
        {found.refunded_cents > 0 && (
          <p class="sum">
            <span>{t("officeRefunded")}</span>
            <strong>{yuan(found.refunded_cents)}</strong>
          </p>
        )}
      </section>
      {found.tickets.map((ticket) => (
        <Ticket key={ticket.ticket} ticket={ticket} />
      ))}
      {found.refunds.length > 0 && <Refunds refunds={found.refunds} number={found.order} />}
    </>
  );
}

const COUNTERS = [
  ["to_pass", "officeToPass"],
  ["to_refund", "officeToRefund"],
  ["to_collect", "officeToCollect"],
  ["collected", "officeCollected"],
  ["named", "officeNamed"],
] as const satisfies readonly (readonly [keyof TicketView, Text])[];

function Ticket({ ticket }: { ticket: TicketView }): JSX.Element {
  const redeemed = Math.max(0, ...ticket.rights.map((right) => right.redeemed));
  const cards = ticket.credentials.filter((each) => each.kind === "card");
  return (
    <section class="card office-ticket" data-ticket={ticket.ticket} data-state={ticket.state}>
      <h3>
        {pick(ticket.product_name_zh, ticket.product_name_en)} · {t("officeTicket", { n: ticket.ticket })} ·{" "}
        <span class={ticket.state === "on_hold" ? "error" : "muted"}>{word("ticket", ticket.state)}</span>
      </h3>
      {ticket.hold_reason !== "" && <p class="error">{ticket.hold_reason}</p>}
      <p class="muted">
        {dateTime(ticket.valid_from)} – {dateTime(ticket.valid_to)}
      </p>
      <dl class="facts">
        <dt>{t("officePassed")}</dt>
        <dd data-count="passed">
          {redeemed} / {ticket.pax}
        </dd>
        {COUNTERS.map(([field, text]) => (
          <>
            <dt>{t(text)}</dt>
            <dd data-count={field}>{ticket[field]}</dd>
          </>
        ))}
        {cards.map((card) => (
          <>
            <dt>
              {t("officeCard")} {card.tail !== "" ? `…${card.tail}` : card.issue_index}
            </dt>
            <dd>{word("card", card.state)}</dd>
          </>
        ))}
      </dl>
      <Actions ticket={ticket} hasCard={cards.length > 0} />
    </section>
  );
}

function Actions({ ticket, hasCard }: { ticket: TicketView; hasCard: boolean }): JSX.Element | null {
  const [places, setPlaces] = useState("1");
  const [reason, setReason] = useState("");
  const [card, setCard] = useState("");
  const [nobody, setNobody] = useState(false);
  const [busy, setBusy] = useState(false);
  const number = ticket.ticket;
  const held = ticket.state === "on_hold";
  const methods: Method[] = ["office.hold", "office.refund", "office.collect", "office.reverse", "office.replace_card"];
  if (!methods.some((method) => may(method))) return null;

  const run = async (what: string, send: (key: string, people: number, why: string) => Promise<string>) => {
    const people = Number(places);
    if (!Number.isInteger(people) || people < 1 || people > PLACES_MOST) {
      told.value = t("officePlacesWrong");
      return;
    }
    if (reason.trim() === "") {
      told.value = t("needReason");
      return;
    }
    if (busy) return;
    setBusy(true);
    const done = await command(`${what}:${number}:${people}:${reason.trim()}:${card}:${nobody}`, number, (key) =>
      send(key, people, reason.trim()),
    );
    setBusy(false);
    if (done) {
      setReason("");
      setCard("");
    }
  };
  return (
    <div class="office-actions">
      <label>
        {t("officePlaces")}
        <input
          name="places"
          type="number"
          min="1"
          max={PLACES_MOST}
          value={places}
          onInput={(event) => setPlaces(event.currentTarget.value)}
        />
      </label>
      <label class="wide">
        {t("reason")}
        <input
          name="reason"
          value={reason}
          maxLength={REASON_MOST}
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
      {hasCard && may("office.replace_card") && (
        <label>
          {t("officeNewCard")}
          <input name="card" value={card} autocomplete="off" onInput={(event) => setCard(event.currentTarget.value)} />
        </label>
      )}
      {may("office.reverse") && (
        <label class="why-face">
          <input type="checkbox" checked={nobody} onChange={(event) => setNobody(event.currentTarget.checked)} />{" "}
          {t("officeNobodyIn")}
        </label>
      )}
      <div class="office-buttons">
        {may("office.hold") && (
          <button
            type="button"
            disabled={busy}
            onClick={() =>
              void run("hold", async (key, _people, why) => {
                await call("office.hold", { ticket: number, held: !held, reason: why, key });
                return held ? t("officeResumed") : t("officeHeld");
              })
            }
          >
            {held ? t("officeResume") : t("officeHold")}
          </button>
        )}
        {may("office.refund") && (
          <button
            type="button"
            disabled={busy}
            onClick={() =>
              void run("refund", async (key, people, why) => {
                const asked = await call("office.refund", { ticket: number, places: people, reason: why, key });
                return t("officeRefundAsked", { n: asked.refund, money: yuan(asked.amount_cents) });
              })
            }
          >
            {t("officeRefund")}
          </button>
        )}
        {may("office.collect") && ticket.pax > 1 && (
          <button
            type="button"
            disabled={busy}
            onClick={() =>
              void run("collect", async (key, people, why) => {
                const workstation = t("office");
                const got = await call("office.collect", { ticket: number, places: people, workstation, reason: why, key });
                return t("officePapers", { list: got.papers.map((paper) => `…${paper.code.slice(-CODE_TAIL)}`).join(" ") });
              })
            }
          >
            {t("officeCollect")}
          </button>
        )}
        {may("office.reverse") && (
          <button
            type="button"
            disabled={busy}
            onClick={() =>
              void run("reverse", async (key, people, why) => {
                const params = { ticket: number, places: people, reason: why, correct_count: nobody, key };
                const undone = await call("office.reverse", params);
                return t("officeReversed", { n: undone.places });
              })
            }
          >
            {t("officeReverse")}
          </button>
        )}
        {hasCard && may("office.replace_card") && (
          <button
            type="button"
            disabled={busy || card.trim() === ""}
            onClick={() =>
              void run("card", async (key, _people, why) => {
                const made = await call("office.replace_card", { ticket: number, card: card.trim(), reason: why, key });
                return t("officeReplaced", { n: made.issue_index });
              })
            }
          >
            {t("officeReplace")}
          </button>
        )}
      </div>
    </div>
  );
}

function Refunds({ refunds, number }: { refunds: RefundView[]; number: number }): JSX.Element {
  const [reason, setReason] = useState("");
  const decide = (refund: number, approved: boolean) => {
    if (reason.trim() === "") {
      told.value = t("needReason");
      return;
    }
    void command(`decide:${refund}:${approved}:${reason.trim()}`, number, async (key) => {
      const params = { refund, approved, reason: reason.trim(), key };
      const settled = await call("office.decide_refund", params);
      return `${t("officeRefund")} ${refund}: ${word("refund", settled.state)}`;
    });
  };
  const pay = (refund: number) =>
    void command(`pay:${refund}`, number, async (key) => {
      const paid = await call("office.pay_refund", { refund, key });
      return `${t("officeRefund")} ${refund}: ${word("refund", paid.state)}`;
    });
  return (
    <section class="card" aria-label={t("officeRefunds")}>
      <h3>{t("officeRefunds")}</h3>
      {may("office.decide_refund") && (
        <label>
          {t("reason")}
          <input
            name="refund-reason"
            value={reason}
            maxLength={REASON_MOST}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
      )}
      <ul class="office-refunds">
        {refunds.map((refund) => (
          <li key={refund.refund} data-refund={refund.refund} data-state={refund.state}>
            <span>
              {refund.refund} · {t("persons", { n: refund.places })} · {yuan(refund.amount_cents)} ·{" "}
              {refund.parts.map((part) => `${word("tender", part.tender)} ${yuan(part.amount_cents)}`).join(" + ")} ·{" "}
              {refund.requested_by} · <b>{word("refund", refund.state)}</b>
            </span>
            {refund.state === "requested" && may("office.decide_refund") && (
              <>
                <button type="button" onClick={() => decide(refund.refund, true)}>
                  {t("officeApprove")}
                </button>
                <button type="button" onClick={() => decide(refund.refund, false)}>
                  {t("officeReject")}
                </button>
              </>
            )}
            {refund.state === "approved" && may("office.pay_refund") && (
              <button type="button" onClick={() => pay(refund.refund)}>
                {t("officePaid")}
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
