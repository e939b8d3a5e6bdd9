// Records a canvas, and what is said beside it, to a file that the browser saves.

const KINDS = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"];
const SPOKEN = ["mp4a.40.2", "opus"].map((sound) => `video/mp4;codecs=avc1.42E01E,${sound}`);
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

  // `sound`: the tracks of what is heard, if anything is.
  start(sound = []) {
    const kinds = sound.length ? [...SPOKEN, "video/webm;codecs=vp9,opus", "video/webm"] : KINDS;
    const mimeType = kinds.find((kind) => MediaRecorder.isTypeSupported(kind));
    const media = new MediaStream([...this.canvas.captureStream().getTracks(), ...sound]);
    const recorder = new MediaRecorder(media, { mimeType, videoBitsPerSecond: RATE });
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
