// Ticket codes read without the server: base45 (RFC 9285), the payload of docs/ticket-code.md and its Ed25519 signature.

import { verifyAsync } from "@noble/ed25519";

const PREFIX = "PF1:";
const TEXT_CHARACTERS = 138;
const PAYLOAD_BYTES = 25;
const SIGNATURE_BYTES = 64;
const EPOCH_S = 1_735_689_600; // 2025-01-01T00:00:00Z
const CONTEXT = new TextEncoder().encode("paifang-ticket-1");
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

export interface TicketCode {
  keyId: number;
  site: string; // hexadecimal
  ticket: number;
  validFrom: number; // seconds since the epoch
  validTo: number;
  pax: number;
  productClass: number;
  zones: number;
}

/** Not a genuine code of ours; `code` is the refusal's. */
export class BadCode extends Error {
  constructor(readonly code: "unknown_code" | "bad_signature") {
    super(code);
  }
}

/** What a code says, once its signature is known to be good. Throws BadCode. */
export async function verify(text: string, keys: Map<number, Uint8Array>): Promise<TicketCode> {
  const signed = decode(text);
  const payload = signed.subarray(0, PAYLOAD_BYTES);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const key = keys.get(view.getUint16(0));
  if (key === undefined) throw new BadCode("bad_signature");
  const message = new Uint8Array(CONTEXT.length + PAYLOAD_BYTES);
  message.set(CONTEXT);
  message.set(payload, CONTEXT.length);
  // RFC 8032 as the server reads it, not the laxer rules of ZIP 215
  const good = await verifyAsync(signed.subarray(PAYLOAD_BYTES), message, key, { zip215: false }).catch(() => false);
  if (!good) throw new BadCode("bad_signature");
  const minute = (offset: number) => EPOCH_S + view.getUint32(offset) * 60;
  const high = view.getUint8(6) * 2 ** 16 + view.getUint16(7);
  return {
    keyId: view.getUint16(0),
    site: hex(payload.subarray(2, 6)),
    ticket: high * 2 ** 32 + view.getUint32(9),
    validFrom: minute(13),
    validTo: minute(17),
    pax: view.getUint8(21),
    productClass: view.getUint8(22),
    zones: view.getUint16(23),
  };
}

function decode(text: string): Uint8Array {
  if (text.length !== TEXT_CHARACTERS || !text.startsWith(PREFIX)) throw new BadCode("unknown_code");
  const bytes = new Uint8Array(PAYLOAD_BYTES + SIGNATURE_BYTES);
  let at = 0;
  for (let place = PREFIX.length; place < text.length; place += 3) {
    const digits = [...text.slice(place, place + 3)].map((character) => ALPHABET.indexOf(character));
    if (digits.includes(-1)) throw new BadCode("unknown_code");
    const [a = 0, b = 0, c = 0] = digits;
    const value = a + b * 45 + c * 2025;
    if (digits.length === 3) {
      if (value > 0xffff) throw new BadCode("unknown_code");
      bytes[at++] = value >> 8;
    } else if (digits.length !== 2 || value > 0xff) {
      throw new BadCode("unknown_code");
    }
    bytes[at++] = value & 0xff;
  }
  return bytes;
}

export function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

/** The four bytes that stand for a site in its codes. */
export async function siteHash(site: string): Promise<string> {
  return hex((await sha256(site)).subarray(0, 4));
}

/** The mark of a ticket on the list, as `packMarks` spells it. */
export async function mark(site: string, ticket: number): Promise<string> {
  return hex((await sha256(`${site}:${ticket}`)).subarray(0, 8));
}
