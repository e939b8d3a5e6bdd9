// Frames a second, latency and its stages, over the last seconds.

const SPAN = 3000; // ms
const NAMES = { detect: "find the face", decode: "decode", encode: "encode picture" };

export class Figures {
  constructor(page) {
    this.page = page;
    this.frames = []; // {time, latency, stages}
    this.rows = new Map();
    this.pictures = 0;
    setInterval(() => this.show(), 500);
  }

  // Count a picture that is on the screen since `time`.
  count(reply, time) {
    this.pictures += 1;
    const stages = { ...reply.stages, draw: time - reply.arrived };
    this.frames.push({ time, latency: time - reply.captured, stages });
  }

  show() {
    const since = performance.now() - SPAN;
    this.frames = this.frames.filter(({ time }) => time > since);
    const { rate, latency, slowest } = this.page;
    document.body.dataset.pictures = this.pictures;
    if (!this.frames.length) {
      rate.value = latency.value = slowest.value = "–";
      return;
    }
    const latencies = this.frames.map((frame) => frame.latency).sort((a, b) => a - b);
    const at = (part) => latencies[Math.floor(part * (latencies.length - 1))];
    rate.value = ((this.frames.length * 1000) / Math.min(SPAN, performance.now() - this.first())).toFixed(1);
    latency.value = at(0.5).toFixed(0);
    slowest.value = at(0.95).toFixed(0);
    const whole = this.frames.reduce((sum, frame) => sum + frame.latency, 0) / this.frames.length;
    for (const name of Object.keys(this.frames.at(-1).stages)) {
      const mean = this.frames.reduce((sum, { stages }) => sum + (stages[name] ?? 0), 0) / this.frames.length;
      const { value, meter } = this.row(name);
      value.textContent = mean.toFixed(1);
      meter.value = mean / whole;
    }
  }

  first() {
    return this.frames[0].time - 1;
  }

  row(name) {
    if (!this.rows.has(name)) {
      const row = this.page.stages.insertRow();
      const head = row.appendChild(document.createElement("th"));
      head.scope = "row";
      head.textContent = NAMES[name] ?? name;
      const value = row.insertCell();
      const meter = row.insertCell().appendChild(document.createElement("meter"));
      meter.setAttribute("aria-hidden", "true");
      this.rows.set(name, { value, meter });
    }
    return this.rows.get(name);
  }
}
