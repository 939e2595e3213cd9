// A ticket, an order, a card, a person: what happened to it. And a refusal: which way its scan took, and why.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { clock, dateTime } from "./format";
import { pick, t, word } from "./i18n";
import { Icon } from "./icons";
import { go, href, route } from "./router";
import { call, type CallError } from "./rpc";
import { asCallError, feed, laneIds, laneName, lane, may } from "./store";
import type { FindResult, TracePath } from "./types";
import { Why } from "./why";

const TEXT_MOST = 512; // characters, as the server takes them
const REFUSALS_SHOWN = 40;

const found = signal<FindResult | null>(null);
const problem = signal<CallError | null>(null);
const searching = signal(false);

async function search(text: string): Promise<void> {
  if (text.trim() === "" || searching.value) return;
  searching.value = true;
  problem.value = null;
  found.value = null;
  try {
    found.value = await call("find.history", { text: text.trim() });
  } catch (error) {
    problem.value = asCallError(error);
  } finally {
    searching.value = false;
  }
}

export function Find(): JSX.Element {
  const [text, setText] = useState("");
  const trace = route.value.query.get("trace") ?? "";
  useEffect(() => () => void (found.value = null), []);
  return (
    <div class="find">
      <div class="find-main">
        {may("find.history") && (
          <form
            class="card find-form"
            role="search"
            onSubmit={(event) => {
              event.preventDefault();
              void search(text);
              setText(""); // it may be a usable ticket: it does not stay on the screen
            }}
          >
            <label>
              {t("findWhat")}
              <input
                type="search"
                name="find"
                value={text}
                maxLength={TEXT_MOST}
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => setText(event.currentTarget.value)}
              />
            </label>
            <button type="submit" class="primary" disabled={searching.value}>
              <Icon name="search" /> {t("find")}
            </button>
          </form>
        )}
        {problem.value !== null && (
          <p class="card error" role="alert" data-testid="find-problem">
            <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
          </p>
        )}
        {found.value !== null && <Found result={found.value} />}
        {trace !== "" && may("trace.path") && <Path key={trace} trace={trace} />}
        {found.value === null && trace === "" && <p class="card muted hint">{t("findHint")}</p>}
      </div>
      <div class="find-side">
        {may("site.explain") && <Explain />}
        <Refusals chosen={trace} />
      </div>
    </div>
  );
}

function Found({ result }: { result: FindResult }): JSX.Element {
  return (
    <section class="card" aria-label={t("history")} data-testid="history">
      <h2>{t("history")}</h2>
      {result.orders.length > 0 && (
        <ul class="found-orders">
          {result.orders.map((order) => (
            <li key={order.order}>
              <b>
                {t("order")} {order.order}
              </b>{" "}
              {word("order", order.state)} · {dateTime(order.sold_at)} · {order.channel} {order.user}
              <ul>
                {order.tickets.map((ticket) => (
                  <li key={ticket.ticket} data-ticket={ticket.ticket}>
                    {t("officeTicket", { n: ticket.ticket })} · {pick(ticket.product_name_zh, ticket.product_name_en)} ·{" "}
                    {word("ticket", ticket.state)} · {t("officeToPass")} {ticket.to_pass} / {ticket.pax} · {dateTime(ticket.valid_from)} –{" "}
                    {dateTime(ticket.valid_to)}
                  </li>
                ))}
              </ul>
            </li>
          ))}
        </ul>
      )}
      <ol class="timeline">
        {result.events.map((event, index) => (
          <li key={`${event.at} ${index}`} class={`kind-${event.kind}`}>
            <time>{dateTime(event.at)}</time>
            <span>
              {word("kind", event.kind)}
              {event.lane !== "" && (
                <>
                  {" · "}
                  <a href={href("lanes", event.lane)}>{laneName(event.lane)}</a>
                </>
              )}
              {" · "}
              {pick(event.text_zh, event.text_en)} {event.code !== "" && <code>{event.code}</code>}
            </span>
            {event.trace !== "" && may("trace.path") && <a href={href("find", "", { trace: event.trace })}>{t("why")}</a>}
          </li>
        ))}
      </ol>
      {result.events.length === 0 && result.orders.length === 0 && <p class="muted">{t("nothingFound")}</p>}
    </section>
  );
}

/** A code is explained for a lane that is chosen here. */
function Explain(): JSX.Element {
  const [chosen, setChosen] = useState(laneIds.value[0] ?? "");
  const id = laneIds.value.includes(chosen) ? chosen : (laneIds.value[0] ?? "");
  return (
    <section class="card" aria-label={t("why")}>
      <h2>{t("whyTicket")}</h2>
      <label>
        {t("lane")}
        <select value={id} onChange={(event) => setChosen(event.currentTarget.value)}>
          {laneIds.value.map((one) => (
            <option key={one} value={one}>
              {lane(one).name}
            </option>
          ))}
        </select>
      </label>
      {id !== "" && <Why key={id} lane={id} />}
    </section>
  );
}

/** The latest refusals, each a press away from its explanation. */
function Refusals({ chosen }: { chosen: string }): JSX.Element {
  const lines = [];
  for (let index = feed.value.length - 1; index >= 0 && lines.length < REFUSALS_SHOWN; index--) {
    const line = feed.value[index]!;
    if (line.kind === "refused") lines.push(line);
  }
  return (
    <section class="card refusals" aria-label={t("latestRefusals")}>
      <h2>{t("latestRefusals")}</h2>
      <ol class="scroll">
        {lines.map((line) => (
          <li key={line.seq}>
            <button
              type="button"
              class={line.trace !== "" && line.trace === chosen ? "refusal is-on" : "refusal"}
              data-trace={line.trace}
              disabled={line.trace === "" || !may("trace.path")}
              onClick={() => go("find", "", { trace: line.trace })}
            >
              <time>{clock(line.at)}</time> <b>{laneName(line.lane)}</b> <span>{pick(line.text_zh, line.text_en)}</span>
              <code>{line.code}</code>
            </button>
          </li>
        ))}
        {lines.length === 0 && <li class="muted">{t("nothing")}</li>}
      </ol>
    </section>
  );
}

/** The way of one scan through the actors: who was handed it when, how long it had waited, and what was said. */
function Path({ trace }: { trace: string }): JSX.Element {
  const [path, setPath] = useState<TracePath | null>(null);
  const [failure, setFailure] = useState<CallError | null>(null);
  useEffect(() => {
    let gone = false;
    call("trace.path", { trace }).then(
      (told) => gone || setPath(told),
      (error: unknown) => gone || setFailure(asCallError(error)),
    );
    return () => {
      gone = true;
    };
  }, [trace]);
  const line = feed.value.find((one) => one.trace === trace && (one.kind === "refused" || one.kind === "admitted"));
  const began = path?.steps[0]?.at ?? 0;
  const longest = Math.max(1, ...(path?.steps.map((step) => (step.at - began) * 1000) ?? []));
  return (
    <section class="card" aria-label={t("tracePath")} data-testid="trace" data-trace={trace}>
      <header class="section-head">
        <h2>{t("tracePath")}</h2>
        <code>{trace}</code>
        <span class="spacer" />
        <button type="button" class="quiet" onClick={() => go("find")}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      {line !== undefined && (
        <p class={line.kind === "refused" ? "verdict warn" : "verdict good"}>
          <Icon name={line.kind === "refused" ? "cross" : "check"} size="1.3em" /> <b>{laneName(line.lane)}</b> {clock(line.at)} ·{" "}
          {pick(line.text_zh, line.text_en)} <code>{line.code}</code>
        </p>
      )}
      {failure !== null && (
        <p class="error" role="alert">
          <Icon name="cross" /> {pick(failure.zh, failure.en)}
        </p>
      )}
      {path !== null && path.steps.length === 0 && <p class="muted">{t("traceGone")}</p>}
      {path !== null && path.steps.length > 0 && (
        <table data-testid="trace-steps">
          <thead>
            <tr>
              <th scope="col" class="number">
                {t("afterMs")}
              </th>
              <th scope="col">{t("actor")}</th>
              <th scope="col">{t("message")}</th>
              <th scope="col" class="number">
                {t("waitedMs")}
              </th>
              <th scope="col">{t("said")}</th>
            </tr>
          </thead>
          <tbody>
            {path.steps.map((step, index) => {
              const after = (step.at - began) * 1000;
              return (
                <tr key={index} data-step={step.message} class={step.code !== "" && step.code !== "ok" ? "is-troubled" : ""}>
                  <td class="number">
                    {after.toFixed(1)}
                    <svg class="span-bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
                      <rect width={Math.max(1, (after / longest) * 100)} height="4" />
                    </svg>
                  </td>
                  <th scope="row">{step.actor}</th>
                  <td>
                    {word("message", step.message)}
                    {word("message", step.message) !== step.message && <small class="muted id"> {step.message}</small>}
                  </td>
                  <td class="number">{step.waited_ms >= 0.05 ? step.waited_ms.toFixed(1) : ""}</td>
                  <td>
                    {pick(step.text_zh, step.text_en)} {step.code !== "" && <code>{step.code}</code>}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
      <p class="muted">{t("traceHint")}</p>
    </section>
  );
}
