// The live stream: packs and unpacks messages, decides when a frame is due, and splits latency into stages.
// docs/guide/live.md describes the messages.

const KEEP_ALIVE = 10_000; // ms between messages that keep the stream open
const CLOCK_SAMPLES = 100; // frames from which the offset between the clocks is estimated
const QUIET_LEVEL = 330; // of 32768: sound below this counts as silence
const SKIP_QUIET_ABOVE = 0.15, SKIP_ALL_ABOVE = 0.6; // s of sound queued at the server, above which to drop some

export class LiveStream {
  // Calls `onPicture(blob, reply, samples)` for every picture, with its sound if the portrait speaks,
  // `onMessage(message)` for every text message, and `onClose(code, reason)`.
  constructor(url, token, { onOpen, onPicture, onMessage, onClose }) {
    this.socket = new WebSocket(url, token ? [`bearer.${token}`] : []);
    this.socket.binaryType = "arraybuffer";
    this.sent = new Map(); // frame number → when it was captured and sent
    this.number = 0;
    this.seen = 0; // number of the last picture drawn
    this.isListening = false; // whether the portrait is ready to speak
    this.sentSound = []; // {until: samples sent so far, heard: when}
    this.samplesSent = 0;
    this.waiting = 0; // s of sound that the server has not spoken yet
    this.voiceLatency = 0; // ms from sending sound to the portrait speaking it
    this.serverTime = 0; // ms that the server needs for a frame
    this.serverFreeAt = 0; // when it will finish the current one
    this.transitTimes = []; // [toServer, fromServer], ms, including the offset between the clocks
    this.reason = "";
    this.keepAlive = setInterval(() => this.command({ alive: true }), KEEP_ALIVE);
    this.socket.onopen = onOpen;
    this.socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return onPicture(...this.unpack(data));
      const message = JSON.parse(data);
      if ("voice" in message) this.isListening = message.voice !== false;
      if (message.code) this.reason = message.error;
      else onMessage(message);
    };
    this.socket.onclose = ({ code, reason }) => {
      clearInterval(this.keepAlive);
      onClose(code, this.reason || reason);
    };
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  // Whether to send a frame captured now. The server takes the newest frame when it has finished the last one: a much
  // earlier frame would only be replaced, and one that waits in the send buffer would arrive late.
  isDue(now, interval) {
    return this.isOpen && this.socket.bufferedAmount === 0 && now >= this.serverFreeAt - 1.5 * interval;
  }

  // Send a frame, JPEG or WebP; `captured` is when the camera saw it.
  send(blob, captured) {
    const now = performance.now();
    this.sent.set(++this.number, { captured, now });
    this.socket.send(packMessage({ frame: this.number, seen: this.seen }, blob));
  }

  // Send sound (Int16Array) just recorded. If too much is queued at the server, drop it: first silence, then anything.
  sendSound(samples) {
    const isQuiet = samples.every((sample) => Math.abs(sample) < QUIET_LEVEL);
    if (!this.isOpen || !this.isListening || this.waiting > (isQuiet ? SKIP_QUIET_ABOVE : SKIP_ALL_ABOVE)) return;
    this.samplesSent += samples.length;
    this.sentSound.push({ until: this.samplesSent, heard: performance.now() });
    this.socket.send(packMessage({ sound: ++this.number, seen: this.seen }, samples));
  }

  // Start speaking, or follow the camera again. The server's counts restart.
  speak(speech) {
    Object.assign(this, { isListening: false, sentSound: [], samplesSent: 0, waiting: 0, voiceLatency: 0 });
    this.command({ voice: speech });
  }

  // Send a photo that becomes the portrait.
  sendPhoto(file) {
    this.socket.send(packMessage({ portrait: file.name }, file));
  }

  command(message) {
    if (this.isOpen) this.socket.send(JSON.stringify(message));
  }

  close() {
    this.socket.close(1000);
  }

  unpack(data) {
    const arrived = performance.now();
    const length = new DataView(data).getUint32(0);
    const reply = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const body = data.slice(4 + length);
    if ("samples" in reply) return this.unpackVoice(reply, body, arrived);
    const { captured, now } = this.sent.get(reply.frame);
    for (const number of this.sent.keys()) if (number <= reply.frame) this.sent.delete(number);
    const { wait, ...work } = reply.stages;
    this.serverTime = Object.values(work).reduce((sum, each) => sum + each, 0);
    this.serverFreeAt = arrived + this.serverTime;
    const [toServer, fromServer] = this.estimateTransit(reply.received - now, arrived - reply.sent);
    Object.assign(reply, { captured, arrived });
    const capture = now - captured;
    reply.stages = { "capture, encode": capture, "to server": toServer, wait, ...work, "from server": fromServer };
    return [new Blob([body]), reply];
  }

  unpackVoice(reply, body, arrived) {
    this.waiting = reply.waiting;
    while (this.sentSound.length && this.sentSound[0].until <= reply.said) {
      this.voiceLatency = arrived - this.sentSound.shift().heard;
    }
    const { whole, encode, ...work } = reply.stages;
    const wait = Math.max(0, this.voiceLatency - whole - encode);
    Object.assign(reply, { captured: arrived - this.voiceLatency, arrived, stages: { wait, ...work, encode } });
    return [new Blob([body.slice(0, reply.picture)]), reply, new Int16Array(body.slice(reply.picture))];
  }

  // The offset between the clocks is unknown: assume that the fastest message in each direction took equally long.
  estimateTransit(toServer, fromServer) {
    this.transitTimes.push([toServer, fromServer]);
    if (this.transitTimes.length > CLOCK_SAMPLES) this.transitTimes.shift();
    const [fastestTo, fastestFrom] = [0, 1].map((way) => Math.min(...this.transitTimes.map((each) => each[way])));
    const offset = (fastestTo - fastestFrom) / 2;
    return [toServer - offset, fromServer + offset];
  }
}

function packMessage(header, body) {
  const head = new TextEncoder().encode(JSON.stringify(header));
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, head.length);
  return new Blob([length, head, body]);
}
