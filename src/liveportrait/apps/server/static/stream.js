// The stream of live frames: packs and unpacks messages, decides when a frame is due, and splits latency into stages.
// docs/guide/live.md describes the messages.

const KEEP_ALIVE = 10_000; // ms without a frame after which the server is told that this side is still there
const CLOCK_SAMPLES = 100; // frames from which the difference of both clocks is estimated
const QUIET = 330; // of 32768: what is not louder is left out where sound comes late, and from LATE s on anything
const PATIENT = 0.15, LATE = 0.6; // s of sound that wait at the server

export class LiveStream {
  // Calls `picture(blob, reply, samples)` for every picture, with its sound where the portrait speaks, `told(message)` for every message in words, `ended(code, reason)`.
  constructor(url, token, { opened, picture, told, ended }) {
    this.socket = new WebSocket(url, token ? [`bearer.${token}`] : []);
    this.socket.binaryType = "arraybuffer";
    this.sent = new Map(); // frame number → when it was captured and sent
    this.number = 0;
    this.seen = 0; // number of the last picture that was drawn
    this.listens = false; // whether the portrait is ready to speak
    this.pieces = []; // of sound: how many samples were sent with it and before, and when
    this.spoken = 0; // samples sent
    this.waiting = 0; // s of sound that the server has not said yet
    this.late = 0; // ms by which the portrait says what was sent
    this.busy = 0; // ms that the server works on a frame
    this.free = 0; // when it will be done with the one that it works on
    this.ways = []; // [there, back] as the clocks show them, unequal as they are
    this.reason = "";
    this.alive = setInterval(() => this.command({ alive: true }), KEEP_ALIVE);
    this.socket.onopen = opened;
    this.socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return picture(...this.unpack(data));
      const message = JSON.parse(data);
      if ("voice" in message) this.listens = message.voice !== false;
      if (message.code) this.reason = message.error;
      else told(message);
    };
    this.socket.onclose = ({ code, reason }) => {
      clearInterval(this.alive);
      ended(code, this.reason || reason);
    };
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  // Whether a frame that is captured now comes in time: the server takes the newest when it is done with the last, so
  // a frame long before that would only be replaced, and one that lies in the way here would be late.
  isDue(now, interval) {
    return this.isOpen && this.socket.bufferedAmount === 0 && now >= this.free - 1.5 * interval;
  }

  // Send a frame, JPEG or WebP; `captured` is when the camera saw it.
  send(blob, captured) {
    const now = performance.now();
    this.sent.set(++this.number, { captured, now });
    this.socket.send(packed({ frame: this.number, seen: this.seen }, blob));
  }

  // Send sound, an Int16Array, that has just been heard. Where it piles up something is left out, silence at first.
  sendSound(samples) {
    const isQuiet = samples.every((sample) => Math.abs(sample) < QUIET);
    if (!this.isOpen || !this.listens || this.waiting > (isQuiet ? PATIENT : LATE)) return;
    this.spoken += samples.length;
    this.pieces.push({ until: this.spoken, heard: performance.now() });
    this.socket.send(packed({ sound: ++this.number, seen: this.seen }, samples));
  }

  // Speak from now on, or follow the camera again. The server counts anew.
  speak(speech) {
    Object.assign(this, { listens: false, pieces: [], spoken: 0, waiting: 0, late: 0 });
    this.command({ voice: speech });
  }

  // Send a photo that becomes the portrait.
  sendPhoto(file) {
    this.socket.send(packed({ portrait: file.name }, file));
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
    if ("samples" in reply) return this.unpackSpoken(reply, body, arrived);
    const { captured, now } = this.sent.get(reply.frame);
    for (const number of this.sent.keys()) if (number <= reply.frame) this.sent.delete(number);
    const { wait, ...work } = reply.stages;
    this.busy = Object.values(work).reduce((sum, each) => sum + each, 0);
    this.free = arrived + this.busy;
    const [there, back] = this.measureWays(reply.received - now, arrived - reply.sent);
    Object.assign(reply, { captured, arrived });
    reply.stages = { "capture, encode": now - captured, "way there": there, wait, ...work, "way back": back };
    return [new Blob([body]), reply];
  }

  unpackSpoken(reply, body, arrived) {
    this.waiting = reply.waiting;
    while (this.pieces.length && this.pieces[0].until <= reply.said) {
      this.late = arrived - this.pieces.shift().heard;
    }
    const { whole, encode, ...work } = reply.stages;
    const wait = Math.max(0, this.late - whole - encode);
    Object.assign(reply, { captured: arrived - this.late, arrived, stages: { wait, ...work, encode } });
    return [new Blob([body.slice(0, reply.picture)]), reply, new Int16Array(body.slice(reply.picture))];
  }

  // The clocks differ by an unknown time: it is taken so that the quickest message each way took equally long.
  measureWays(there, back) {
    this.ways.push([there, back]);
    if (this.ways.length > CLOCK_SAMPLES) this.ways.shift();
    const [quickest, quickestBack] = [0, 1].map((way) => Math.min(...this.ways.map((each) => each[way])));
    const ahead = (quickest - quickestBack) / 2;
    return [there - ahead, back + ahead];
  }
}

function packed(header, body) {
  const head = new TextEncoder().encode(JSON.stringify(header));
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, head.length);
  return new Blob([length, head, body]);
}
