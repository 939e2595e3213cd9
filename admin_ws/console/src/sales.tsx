// The sales window: products, a cart, a tender, and what was printed. Everything works from the keyboard.

import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { cents, dateTime, yuan } from "./format";
import { pick, t, type Text } from "./i18n";
import { Icon, type IconName } from "./icons";
import { call, type CallError } from "./rpc";
import { asCallError, devices } from "./store";
import { PhoneTicket, ToPhone } from "./ticket/window";
import type { PrintJobView, ProductView, Sold } from "./types";

const TENDERS = ["cash", "bank_card", "alipay", "wechat"] as const;
const NOTES_YUAN = [50, 100, 200, 500, 1000];
const MOST_OF_ONE = 50;
const MOST_PHOTO_BYTES = 300 * 1024;
const CODE_TAIL = 6; // characters of a ticket code that are shown; the rest opens a gate
const POLL_MS = 700;
const POLL_FOR_MS = 60_000;
const SELL_TIMEOUT_MS = 15_000;
const PRINTER_KEY = "paifang.printer";

interface CartLine {
  product: ProductView;
  quantity: number;
  card: string;
  holder: string;
  photo: string; // base64
}

const products = signal<ProductView[]>([]);
const cart = signal<CartLine[]>([]);
const tender = signal<(typeof TENDERS)[number]>("cash");
const received = signal("");
const printer = signal(localStorage.getItem(PRINTER_KEY) ?? "");
const key = signal(""); // of the order being made; kept until it is known to be sold
const selling = signal(false);
const problem = signal<CallError | null>(null);
const note = signal("");
const sold = signal<Sold | null>(null);
const jobs = signal<PrintJobView[]>([]);

const total = computed(() => cart.value.reduce((sum, line) => sum + line.product.price_cents * line.quantity, 0));
const paid = computed(() => (tender.value === "cash" && received.value.trim() !== "" ? cents(received.value) : total.value));

/** Random, for `crypto.randomUUID` exists only on https and on localhost. */
function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function add(product: ProductView): void {
  sold.value = null;
  problem.value = null;
  note.value = "";
  if (key.value === "") key.value = newKey();
  const known = cart.value.find((line) => line.product.product === product.product);
  if (known && product.product_class !== "annual") change(known, { quantity: Math.min(MOST_OF_ONE, known.quantity + 1) });
  else cart.value = [...cart.value, { product, quantity: 1, card: "", holder: "", photo: "" }];
}

function change(line: CartLine, changes: Partial<CartLine>): void {
  cart.value = cart.value
    .map((one) => (one === line ? { ...one, ...changes } : one))
    .filter((one) => one.quantity > 0);
  renew();
}

/** Another order than the one that may have been sold already needs another key. */
function renew(): void {
  if (!problem.value?.lost) key.value = cart.value.length > 0 ? newKey() : "";
}

function clear(): void {
  cart.value = [];
  received.value = "";
  key.value = "";
  problem.value = null;
  note.value = "";
}

async function sell(): Promise<void> {
  if (selling.value || cart.value.length === 0) return;
  const amount = paid.value;
  if (amount === null || amount < total.value) {
    note.value = t("notEnough");
    return;
  }
  selling.value = true;
  problem.value = null;
  note.value = "";
  try {
    const result = await call(
      "sales.sell",
      {
        key: key.value,
        lines: cart.value.map(({ product, quantity, card, holder, photo }) => ({
          type: "SellLine" as const,
          product: product.product,
          quantity,
          card,
          holder,
          photo,
          visit_date: "",
          shown_cents: product.price_cents,
          slot: "",
          codes: [],
          serials: [],
        })),
        tenders: [{ type: "Tender" as const, tender: tender.value, amount_cents: amount }],
        printer: printer.value,
      },
      SELL_TIMEOUT_MS,
    );
    clear();
    sold.value = result;
    jobs.value = [];
    if (result.print_jobs.length > 0) void follow(result);
  } catch (error) {
    problem.value = asCallError(error);
  } finally {
    selling.value = false;
  }
}

/** Watch the print jobs of an order until each is done or failed. */
async function follow(order: Sold): Promise<void> {
  const began = performance.now();
  while (sold.value === order && performance.now() - began < POLL_FOR_MS) {
    try {
      jobs.value = (await call("sales.print_jobs", { order: order.order })).jobs;
      if (jobs.value.length > 0 && jobs.value.every((job) => job.state === "done" || job.state === "failed")) return;
    } catch {
      // the next look may succeed
    }
    await new Promise((resolve) => window.setTimeout(resolve, POLL_MS));
  }
}

export function Sales(): JSX.Element {
  useEffect(() => {
    void call("sales.products", {}).then(
      (found) => (products.value = found.products),
      (error: unknown) => (problem.value = asCallError(error)),
    );
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName);
      if (event.key === "Escape") clear();
      else if (event.key === "Enter" && (target.tagName !== "BUTTON" || target.closest(".sales") === null)) void sell();
      else if (!typing && /^[1-9]$/.test(event.key) && !event.ctrlKey && !event.altKey && !event.metaKey) {
        const product = products.value[Number(event.key) - 1];
        if (product) add(product);
      } else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  return (
    <div class="sales">
      <section class="card products" aria-label={t("products")}>
        <h2>{t("products")}</h2>
        <div class="product-grid">
          {products.value.map((product, index) => (
            <button key={product.product} type="button" class="product" data-product={product.product}
              // a click leaves the focus where it was: Enter after it means "sell", not "one more"
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => add(product)}
            >
              {index < 9 && <kbd>{index + 1}</kbd>}
              <span class="product-name">{pick(product.name_zh, product.name_en)}</span>
              <span class="product-price">{yuan(product.price_cents)}</span>
              <span class="muted">{product.pax > 1 ? t("persons", { n: product.pax }) : "\u00a0"}</span>
            </button>
          ))}
        </div>
      </section>
      {sold.value !== null && cart.value.length === 0 ? <Receipt order={sold.value} /> : <Order />}
    </div>
  );
}

function Order(): JSX.Element {
  const back = paid.value === null ? null : paid.value - total.value;
  return (
    <section class="card order" aria-label={t("order")}>
      <h2>{t("order")}</h2>
      {cart.value.length === 0 && <p class="muted">{t("empty")}</p>}
      <ul class="cart">
        {cart.value.map((line, index) => (
          <Line key={`${line.product.product}-${index}`} line={line} />
        ))}
      </ul>
      <p class="sum">
        <span>{t("total")}</span>
        <strong data-testid="total">{yuan(total.value)}</strong>
      </p>
      <div class="chips" role="group" aria-label={t("tender")}>
        {TENDERS.map((name) => (
          <button
            key={name}
            type="button"
            class={tender.value === name ? "chip is-on" : "chip"}
            aria-pressed={tender.value === name}
            onClick={() => (tender.value = name)}
          >
            {t(name)}
          </button>
        ))}
      </div>
      {tender.value === "cash" && (
        <div class="cash">
          <label>
            {t("received")}
            <input
              inputMode="decimal"
              value={received.value}
              placeholder={(total.value / 100).toFixed(2)}
              onInput={(event) => (received.value = event.currentTarget.value)}
            />
          </label>
          <div class="chips">
            {NOTES_YUAN.filter((yuanNote) => yuanNote * 100 >= total.value)
              .slice(0, 3)
              .map((yuanNote) => (
                <button key={yuanNote} type="button" class="chip" onClick={() => (received.value = String(yuanNote))}>
                  ¥{yuanNote}
                </button>
              ))}
          </div>
          <p class="change">
            {t("change")} <strong>{back === null || back < 0 ? "—" : yuan(back)}</strong>
          </p>
        </div>
      )}
      <PrinterChoice />
      {note.value !== "" && (
        <p class="error" role="alert">
          <Icon name="cross" /> {note.value}
        </p>
      )}
      {problem.value !== null && (
        <p class="error" role="alert">
          <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
          {problem.value.lost && <small> {t("retry")}</small>}
        </p>
      )}
      <div class="order-buttons">
        <button type="button" onClick={clear}>
          {t("clear")}
        </button>
        <button
          type="button"
          class="primary big"
          data-testid="sell"
          disabled={cart.value.length === 0 || selling.value}
          onClick={() => void sell()}
        >
          {selling.value ? t("selling") : t("sell")}
        </button>
      </div>
    </section>
  );
}

function Line({ line }: { line: CartLine }): JSX.Element {
  const { product } = line;
  const readPhoto = async (file: File | undefined) => {
    if (file === undefined) return;
    if (file.size > MOST_PHOTO_BYTES) {
      note.value = t("photoTooBig");
      return;
    }
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    change(line, { photo: btoa(text) });
  };
  const annual = product.product_class === "annual";
  return (
    <li class="cart-line">
      <span class="cart-name">{pick(product.name_zh, product.name_en)}</span>
      <span class="stepper">
        <button type="button" aria-label={`${t("quantity")} −1`} onClick={() => change(line, { quantity: line.quantity - 1 })}>
          −
        </button>
        <output aria-label={t("quantity")}>{line.quantity}</output>
        <button
          type="button"
          aria-label={`${t("quantity")} +1`}
          disabled={annual || line.quantity >= MOST_OF_ONE}
          onClick={() => change(line, { quantity: line.quantity + 1 })}
        >
          +
        </button>
      </span>
      <span class="cart-price">{yuan(product.price_cents * line.quantity)}</span>
      {annual && (
        <span class="annual">
          <label>
            {t("card")}
            <input value={line.card} onInput={(event) => change(line, { card: event.currentTarget.value })} />
          </label>
          <label>
            {t("holder")}
            <input value={line.holder} onInput={(event) => change(line, { holder: event.currentTarget.value })} />
          </label>
          {product.needs_photo && (
            <label>
              {t("photo")} {line.photo !== "" && <Icon name="check" />}
              <input type="file" accept="image/jpeg,image/png" onChange={(event) => void readPhoto(event.currentTarget.files?.[0])} />
            </label>
          )}
        </span>
      )}
    </li>
  );
}

function PrinterChoice(): JSX.Element {
  const known = [...devices.value.values()].filter((view) => view.kind === "printer").map((view) => view.device);
  const choices = [...new Set([...known, ...(printer.value ? [printer.value] : [])])];
  const choose = (name: string) => {
    printer.value = name;
    localStorage.setItem(PRINTER_KEY, name);
  };
  if (printer.value === "" && known.length > 0 && localStorage.getItem(PRINTER_KEY) === null) choose(known[0]!);
  return (
    <label class="printer">
      {t("printer")}
      <select value={printer.value} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">{t("noPrinter")}</option>
        {choices.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

const jobLooks: Record<string, [IconName, Text, string]> = {
  queued: ["clock", "queued", "muted"],
  printing: ["printer", "printing", "active"],
  done: ["check", "done", "good"],
  failed: ["cross", "failed", "error"],
};

function Receipt({ order }: { order: Sold }): JSX.Element {
  const byTicket = new Map(jobs.value.map((job) => [job.ticket, job]));
  const names = new Map(products.value.map((product) => [product.product, pick(product.name_zh, product.name_en)]));
  return (
    <section class="card order receipt" aria-label={t("order")} data-testid="receipt">
      <h2 class="good">
        <Icon name="check" size="1.3em" /> {t("soldOrder", { n: order.order })}
      </h2>
      {order.repeated && <p role="status">{t("repeatedOrder")}</p>}
      <p class="sum">
        <span>{t("total")}</span>
        <strong>{yuan(order.total_cents)}</strong>
      </p>
      <p class="sum">
        <span>{t("change")}</span>
        <strong data-testid="change">{yuan(order.change_cents)}</strong>
      </p>
      <div class="tickets">
        <table>
          <thead>
            <tr>
              <th>{t("products")}</th>
              <th>{t("ticketCode")}</th>
              <th>{t("validTo")}</th>
              <th>{t("printState")}</th>
              <th aria-label={pick("到手机", "To a phone")} />
            </tr>
          </thead>
          <tbody>
            {order.tickets.map((ticket) => (
              <tr key={ticket.ticket}>
                <td>
                  {names.get(ticket.product) ?? ticket.product}
                  {ticket.pax > 1 && ` · ${t("persons", { n: ticket.pax })}`}
                </td>
                <td>
                  <code>…{ticket.code.slice(-CODE_TAIL)}</code>
                </td>
                <td>{dateTime(ticket.valid_to)}</td>
                <td>
                  <Job job={byTicket.get(ticket.ticket)} expected={order.print_jobs.length > 0} />
                </td>
                <td>{ticket.code !== "" && <ToPhone ticket={ticket.ticket} />}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <PhoneTicket tickets={order.tickets} />
      <div class="order-buttons">
        <button type="button" class="primary big" onClick={() => (sold.value = null)}>
          {t("nextOrder")}
        </button>
      </div>
    </section>
  );
}

function Job({ job, expected }: { job: PrintJobView | undefined; expected: boolean }): JSX.Element {
  if (job === undefined && !expected) return <span class="muted">—</span>;
  const [icon, text, tone] = jobLooks[job?.state ?? "queued"] ?? ["dot", "queued", "muted"];
  return (
    <span class={`job ${tone}`} title={job?.detail}>
      <Icon name={icon} /> {t(text)}
    </span>
  );
}
