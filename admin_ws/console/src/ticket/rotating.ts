// The code that is another one every 30 seconds: protocols/rotating.py says what it is, and checks it.

export const STEP_S = 30;
const PREFIX = "PFR1:";
const CONTEXT = "paifang-rotating-1";
const TICKET_BYTES = 7;
const STEP_BYTES = 5;
const MAC_BYTES = 12;
const BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

/** Can this browser compute codes? Only pages that came over TLS, or from the machine itself, may. */
export const canCompute = (): boolean => globalThis.crypto?.subtle !== undefined;

export const stepOf = (atSeconds: number): number => Math.floor(atSeconds / STEP_S);

/** The text to show during a step. */
export async function rotatingText(ticket: number, key: Uint8Array<ArrayBuffer>, step: number): Promise<string> {
  const head = new Uint8Array(TICKET_BYTES + STEP_BYTES);
  head.set(bigEndian(ticket, TICKET_BYTES));
  head.set(bigEndian(step, STEP_BYTES), TICKET_BYTES);
  const context = new TextEncoder().encode(CONTEXT);
  const message = new Uint8Array(context.length + head.length);
  message.set(context);
  message.set(head, context.length);
  const secret = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", secret, message));
  const body = new Uint8Array(head.length + MAC_BYTES);
  body.set(head);
  body.set(mac.subarray(0, MAC_BYTES), head.length);
  return PREFIX + base45(body);
}

function bigEndian(value: number, bytes: number): Uint8Array {
  const found = new Uint8Array(bytes);
  let rest = BigInt(value);
  for (let place = bytes - 1; place >= 0; place -= 1) {
    found[place] = Number(rest & 255n);
    rest >>= 8n;
  }
  return found;
}

/** RFC 9285: two bytes are three characters, the lowest digit first. The body has an even number of bytes. */
function base45(bytes: Uint8Array): string {
  let text = "";
  for (let place = 0; place + 1 < bytes.length; place += 2) {
    const value = bytes[place]! * 256 + bytes[place + 1]!;
    text += BASE45.charAt(value % 45) + BASE45.charAt(Math.floor(value / 45) % 45) + BASE45.charAt(Math.floor(value / 2025));
  }
  return text;
}
