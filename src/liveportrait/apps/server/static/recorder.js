// Records a canvas to a file that the browser saves.

const KINDS = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"];
const RATE = 8_000_000; // bits a second

export class Recorder {
  constructor(canvas, link) {
    this.canvas = canvas;
    this.link = link;
    this.recorder = null;
  }

  get isRecording() {
    return this.recorder !== null;
  }

  start() {
    const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    const recorder = new MediaRecorder(this.canvas.captureStream(), { mimeType, videoBitsPerSecond: RATE });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => this.save(new Blob(parts, { type: recorder.mimeType }));
    recorder.start(1000);
    this.recorder = recorder;
  }

  stop() {
    this.recorder?.stop();
    this.recorder = null;
  }

  save(film) {
    URL.revokeObjectURL(this.link.href);
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    this.link.href = URL.createObjectURL(film);
    this.link.download = `live-${time}.${film.type.startsWith("video/mp4") ? "mp4" : "webm"}`;
    this.link.textContent = `Save ${this.link.download}`;
    this.link.hidden = false;
    this.link.click();
  }
}
