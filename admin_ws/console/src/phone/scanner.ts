// The camera as a code reader: the browser's own detector where there is one, ours in a worker elsewhere.

import decoderUrl from "./decode.worker.ts?worker&url";

const SIDE_MAX_PX = 960; // a larger picture costs time and finds no more
const PAUSE_MS = 90; // between two pictures: nine a second is quick enough for a hand
const DETECTOR_FAILURES = 3; // some browsers have a detector that never works

interface Detector {
  detect(source: HTMLVideoElement): Promise<{ rawValue: string }[]>;
}

declare global {
  interface Window {
    BarcodeDetector?: {
      new (options: { formats: string[] }): Detector;
      getSupportedFormats(): Promise<string[]>;
    };
  }
}

export type CameraTrouble = "insecure" | "denied" | "none" | "busy";

export class CameraError extends Error {
  constructor(readonly trouble: CameraTrouble) {
    super(trouble);
  }
}

export class Scanner {
  private stream: MediaStream | null = null;
  private worker: Worker | null = null;
  private detector: Detector | null = null;
  private failures = 0;
  private stopped = false;
  private readonly canvas = document.createElement("canvas");

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly found: (text: string) => void,
  ) {}

  /** Throws CameraError. */
  async start(): Promise<void> {
    if (!window.isSecureContext || navigator.mediaDevices === undefined) throw new CameraError("insecure");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } },
      });
    } catch (error) {
      const name = error instanceof DOMException ? error.name : "";
      throw new CameraError(name === "NotAllowedError" ? "denied" : name === "NotReadableError" ? "busy" : "none");
    }
    if (this.stopped) {
      this.stop();
      return;
    }
    this.video.srcObject = this.stream;
    await this.video.play().catch(() => undefined); // ended before it began
    this.detector = await detector();
    void this.watch();
  }

  /** Has the camera a lamp? */
  get hasTorch(): boolean {
    const track = this.stream?.getVideoTracks()[0];
    const able = track?.getCapabilities?.() as { torch?: boolean } | undefined;
    return able?.torch === true;
  }

  async torch(on: boolean): Promise<void> {
    const track = this.stream?.getVideoTracks()[0];
    await track?.applyConstraints({ advanced: [{ torch: on } as MediaTrackConstraintSet] }).catch(() => undefined);
  }

  stop(): void {
    this.stopped = true;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.worker?.terminate();
    this.stream = this.worker = null;
    this.video.srcObject = null;
  }

  private async watch(): Promise<void> {
    while (!this.stopped) {
      if (this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && !document.hidden) {
        const text = await this.look();
        if (text !== "" && !this.stopped) this.found(text);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  private async look(): Promise<string> {
    if (this.detector !== null) {
      try {
        return (await this.detector.detect(this.video))[0]?.rawValue ?? "";
      } catch {
        if (++this.failures >= DETECTOR_FAILURES) this.detector = null;
        return "";
      }
    }
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, SIDE_MAX_PX / Math.max(videoWidth, videoHeight, 1));
    const width = Math.round(videoWidth * scale);
    const height = Math.round(videoHeight * scale);
    if (width === 0 || height === 0) return "";
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    if (context === null) return "";
    context.drawImage(this.video, 0, 0, width, height);
    const picture = context.getImageData(0, 0, width, height);
    this.worker ??= new Worker(decoderUrl, { type: "module" });
    const worker = this.worker;
    return new Promise((resolve) => {
      worker.onmessage = (event: MessageEvent<string>) => resolve(event.data);
      worker.onerror = () => resolve("");
      worker.postMessage({ data: picture.data, width, height }, [picture.data.buffer]);
    });
  }
}

async function detector(): Promise<Detector | null> {
  const Kind = window.BarcodeDetector;
  if (Kind === undefined) return null;
  try {
    return (await Kind.getSupportedFormats()).includes("qr_code") ? new Kind({ formats: ["qr_code"] }) : null;
  } catch {
    return null;
  }
}
