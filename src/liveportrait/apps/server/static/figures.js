// Frames a second, latency and its stages, over the last seconds.

const SPAN = 3000; // ms
const STAGES = [
  "capture, encode", "way there", "wait", "decode", "detect", "motion", "render", "paste", "encode", "way back", "draw",
];

export class Figures {
  constructor(page) {
    this.page = page;
    this.frames = []; // {time, latency, stages}
    this.rows = new Map(STAGES.map((name) => [name, this.row(name)]));
    this.pictures = 0;
    setInterval(() => this.show(), 500);
  }

  // Count a picture that is on the screen since `time`.
  count(reply, time) {
    if (!this.frames.length) this.began = reply.captured;
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
      rate.textContent = latency.textContent = slowest.textContent = "–";
      return;
    }
    const latencies = this.frames.map((frame) => frame.latency).sort((a, b) => a - b);
    const at = (part) => latencies[Math.floor(part * (latencies.length - 1))];
    rate.textContent = ((this.frames.length * 1000) / Math.min(SPAN, performance.now() - this.began)).toFixed(1);
    latency.textContent = at(0.5).toFixed(0);
    slowest.textContent = at(0.95).toFixed(0);
    const whole = this.frames.reduce((sum, frame) => sum + frame.latency, 0) / this.frames.length;
    for (const [name, { value, meter }] of this.rows) {
      const mean = this.frames.reduce((sum, { stages }) => sum + (stages[name] ?? 0), 0) / this.frames.length;
      value.textContent = mean.toFixed(1);
      meter.value = mean / whole;
    }
  }

  row(name) {
    const row = this.page.stages.insertRow();
    const head = row.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = name;
    const value = row.insertCell();
    const meter = row.insertCell().appendChild(document.createElement("meter"));
    meter.setAttribute("aria-hidden", "true");
    return { value, meter };
  }
}
