// Records a canvas, and optionally sound, to a file that the browser saves.

const SILENT_TYPES = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"];
const MP4_TYPES_WITH_SOUND = ["mp4a.40.2", "opus"].map((sound) => `video/mp4;codecs=avc1.42E01E,${sound}`);
const BITRATE = 8_000_000; // bits per second

export class Recorder {
  constructor(canvas, link) {
    this.canvas = canvas;
    this.link = link;
    this.recorder = null;
  }

  get isRecording() {
    return this.recorder !== null;
  }

  // `sound`: audio tracks to record, if any.
  start(sound = []) {
    const types = sound.length ? [...MP4_TYPES_WITH_SOUND, "video/webm;codecs=vp9,opus", "video/webm"] : SILENT_TYPES;
    const mimeType = types.find((type) => MediaRecorder.isTypeSupported(type));
    const media = new MediaStream([...this.canvas.captureStream().getTracks(), ...sound]);
    const recorder = new MediaRecorder(media, { mimeType, videoBitsPerSecond: BITRATE });
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

  save(video) {
    URL.revokeObjectURL(this.link.href);
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    this.link.href = URL.createObjectURL(video);
    this.link.download = `live-${time}.${video.type.startsWith("video/mp4") ? "mp4" : "webm"}`;
    this.link.textContent = `Save ${this.link.download}`;
    this.link.hidden = false;
    this.link.click();
  }
}
