// A QR code, dark on white in every theme: readers need it so.

import encodeQR from "qr";
import type { JSX } from "preact";

const QUIET = 4; // modules round the code, as ISO/IEC 18004 asks for

export function Qr({ text, label, ecc = "medium" }: { text: string; label: string; ecc?: "low" | "medium" }): JSX.Element {
  const modules = encodeQR(text, "raw", { ecc, border: QUIET });
  const side = modules.length;
  let path = "";
  modules.forEach((row, y) => row.forEach((dark, x) => (path += dark ? `M${x} ${y}h1v1h-1z` : "")));
  return (
    <svg class="qr" viewBox={`0 0 ${side} ${side}`} role="img" aria-label={label} shape-rendering="crispEdges">
      <rect width={side} height={side} fill="#ffffff" />
      <path d={path} fill="#000000" />
    </svg>
  );
}
