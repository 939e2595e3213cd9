// Finds a QR code in a picture, away from the page, so that the page stays quick.

import jsQR from "jsqr";

interface Picture {
  data: Uint8ClampedArray;
  width: number;
  height: number;
}

self.onmessage = (event: MessageEvent<Picture>) => {
  const { data, width, height } = event.data;
  const found = jsQR(data, width, height, { inversionAttempts: "attemptBoth" });
  self.postMessage(found === null ? "" : found.data);
};
