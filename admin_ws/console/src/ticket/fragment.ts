// What stands behind the # of a ticket's link: protocols/wallet.py says what it is, and writes it.

export interface Ticket {
  ticket: number;
  key: Uint8Array<ArrayBuffer>;
  short: string;
  siteZh: string;
  siteEn: string;
  productZh: string;
  productEn: string;
  productClass: string;
  pax: number;
  validFrom: number; // seconds since the epoch, as all times here
  validTo: number;
  slotFrom: number; // 0: no slot
  slotTo: number;
  zones: string[];
}

const VERSION = "1";
const MOST_CHARACTERS = 1400;
const KEY_BYTES = 32;
const FIELDS_LEAST = 11; // what has a default stands at the end and may be missing
const SHORT = /^[0-9A-HJKMNP-TV-Z]{10}$/;

/** The ticket of a fragment, with or without the #; null when it is none. */
export function readFragment(text: string): Ticket | null {
  const fragment = text.replace(/^#/, "");
  const dot = fragment.indexOf(".");
  if (fragment.length > MOST_CHARACTERS || fragment.slice(0, dot) !== VERSION) return null;
  try {
    const fields: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(fromBase64Url(fragment.slice(dot + 1))));
    return Array.isArray(fields) && fields.length >= FIELDS_LEAST ? ticketOf(fields) : null;
  } catch {
    return null;
  }
}

function ticketOf(fields: unknown[]): Ticket | null {
  const [ticket, key, short, siteZh, siteEn, productZh, productEn, productClass, pax, validFrom, validTo] = fields;
  const [slotFrom, slotTo, zones] = [fields[11] ?? 0, fields[12] ?? 0, fields[13] ?? []];
  const numbers = [ticket, pax, validFrom, validTo, slotFrom, slotTo];
  const words = [key, short, siteZh, siteEn, productZh, productEn, productClass];
  if (!numbers.every((each) => Number.isSafeInteger(each) && (each as number) >= 0)) return null;
  if (!words.every((each) => typeof each === "string") || !SHORT.test(short as string)) return null;
  if (!Array.isArray(zones) || !zones.every((each) => typeof each === "string")) return null;
  const bytes = fromBase64Url(key as string);
  if (bytes.length !== KEY_BYTES) return null;
  return {
    ticket: ticket as number,
    key: bytes,
    short: short as string,
    siteZh: siteZh as string,
    siteEn: siteEn as string,
    productZh: productZh as string,
    productEn: productEn as string,
    productClass: productClass as string,
    pax: pax as number,
    validFrom: validFrom as number,
    validTo: validTo as number,
    slotFrom: slotFrom as number,
    slotTo: slotTo as number,
    zones: zones as string[],
  };
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new Error("not base64url");
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
}
