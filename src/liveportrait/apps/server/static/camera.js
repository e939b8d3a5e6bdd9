// The camera: shows its frames, and sends those that are due.

import { granted, stopTracks } from "./devices.js";

const MAX_SIDE = 640; // px, of the frames sent: the networks see only 256
const JPEG_QUALITY = 0.85;

export class Camera {
  name = "camera";
  label = "Start the camera";
  hint = "Look straight at the camera: motion starts from there.";

  // `stream()` returns the open connection, if any; `isMirrored()` whether to flip frames left to right.
  constructor(video, stream, isMirrored, onGone) {
    Object.assign(this, { video, stream, isMirrored, onGone });
    this.canvas = new OffscreenCanvas(1, 1);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.media = null;
    this.isEncoding = false;
    this.frameInterval = 33; // ms between the camera's frames, a moving average
    this.previous = 0; // time of the last frame
  }

  async start() {
    this.media = await granted(
      { video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" } },
      this.name,
    );
    this.media.getVideoTracks()[0].onended = () => this.onGone(this);
    this.video.srcObject = this.media;
    this.video.requestVideoFrameCallback((...frame) => this.onFrame(...frame));
  }

  stop() {
    stopTracks(this.media);
    this.media = this.video.srcObject = null;
  }

  onFrame(now, { captureTime, width, height }) {
    if (!this.media) return;
    this.video.requestVideoFrameCallback((...frame) => this.onFrame(...frame));
    if (this.previous) this.frameInterval += 0.1 * (Math.min(now - this.previous, 100) - this.frameInterval);
    this.previous = now;
    if (this.isEncoding || !this.stream()?.isDue(now, this.frameInterval)) return;
    const ratio = Math.min(1, MAX_SIDE / Math.max(width, height));
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.isMirrored()) this.context.setTransform(-1, 0, 0, 1, this.canvas.width, 0);
    this.context.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    this.isEncoding = true;
    this.canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY }).then((blob) => {
      this.isEncoding = false;
      if (this.media && this.stream()?.isOpen) this.stream().send(blob, Math.min(captureTime ?? now, now));
    });
  }
}
