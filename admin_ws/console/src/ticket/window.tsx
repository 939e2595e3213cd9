// At the sales window: a ticket for the visitor's phone, as a QR code to scan from the screen or to print.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { pick } from "../i18n";
import { Icon } from "../icons";
import { Qr } from "../qr";
import { call } from "../rpc";
import { asCallError } from "../store";
import type { Wallet } from "../types";
import { grouped } from "./short";
import "./window.css";

const SHOWN_MS = 120_000; // whoever sees it can enter: it does not stay on the screen

const wallet = signal<Wallet | null>(null);
const failure = signal("");
let hiding = 0;

function hide(): void {
  window.clearTimeout(hiding);
  wallet.value = null;
  failure.value = "";
}

async function show(ticket: number): Promise<void> {
  hide();
  try {
    wallet.value = await call("ticket.wallet", { ticket });
    hiding = window.setTimeout(hide, SHOWN_MS);
  } catch (error) {
    const failed = asCallError(error);
    failure.value = pick(failed.zh, failed.en);
  }
}

/** The link as phones open it: the server knows its public address, or it is ours. */
const whole = (link: string): string => (link.includes("://") ? link : location.origin + link);

export function ToPhone({ ticket }: { ticket: number }): JSX.Element {
  return (
    <button type="button" class="to-phone" data-to-phone={ticket} onClick={() => void show(ticket)}>
      {pick("到手机", "To a phone")}
    </button>
  );
}

/** What is shown of it; belongs below the list of tickets that it was asked for from. */
export function PhoneTicket({ tickets }: { tickets: readonly { ticket: number }[] }): JSX.Element | null {
  if (failure.value !== "") {
    return (
      <p class="error" role="alert">
        <Icon name="cross" /> {failure.value}
      </p>
    );
  }
  const shown = wallet.value;
  if (shown === null || !tickets.some((each) => each.ticket === shown.ticket)) return null;
  return (
    <section class="phone-ticket" data-testid="phone-ticket" aria-label={pick("到手机", "To a phone")}>
      <Qr text={whole(shown.link)} label={pick("门票链接", "Link to the ticket")} ecc="low" />
      <div>
        <b>{pick(shown.product_zh, shown.product_en)}</b>
        <span>{pick("请游客扫码打开电子票", "The visitor scans this to open the ticket")}</span>
        <code data-testid="short">{grouped(shown.short)}</code>
        <span class="phone-ticket-buttons">
          <button type="button" onClick={() => window.print()}>
            {pick("打印", "Print")}
          </button>
          <button type="button" onClick={hide}>
            {pick("收起", "Hide")}
          </button>
        </span>
      </div>
    </section>
  );
}
