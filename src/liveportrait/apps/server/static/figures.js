// Frames per second, latency and its stages, over the last seconds.

const WINDOW = 3000; // ms
const STAGES = [
  "capture, encode", "to server", "wait", "decode", "detect", "motion", "render", "paste", "encode", "from server",
  "draw",
];

export class Figures {
  constructor(page) {
    this.page = page;
    this.frames = []; // {time, latency, stages}
    this.rows = new Map(STAGES.map((name) => [name, this.addRow(name)]));
    this.pictures = 0;
    setInterval(() => this.show(), 500);
  }

  // Count a picture that appeared on the screen at `time`.
  count(reply, time) {
    if (!this.frames.length) this.began = reply.captured;
    this.pictures += 1;
    const stages = { ...reply.stages, draw: time - reply.arrived };
    this.frames.push({ time, latency: time - reply.captured, stages });
  }

  show() {
    const since = performance.now() - WINDOW;
    this.frames = this.frames.filter(({ time }) => time > since);
    const { rate, latency, slowest } = this.page;
    document.body.dataset.pictures = this.pictures;
    if (!this.frames.length) {
      rate.textContent = latency.textContent = slowest.textContent = "–";
      return;
    }
    const latencies = this.frames.map((frame) => frame.latency).sort((a, b) => a - b);
    const percentile = (part) => latencies[Math.floor(part * (latencies.length - 1))];
    rate.textContent = ((this.frames.length * 1000) / Math.min(WINDOW, performance.now() - this.began)).toFixed(1);
    latency.textContent = percentile(0.5).toFixed(0);
    slowest.textContent = percentile(0.95).toFixed(0);
    const totalLatency = this.frames.reduce((sum, frame) => sum + frame.latency, 0) / this.frames.length;
    for (const [name, { value, meter }] of this.rows) {
      const mean = this.frames.reduce((sum, { stages }) => sum + (stages[name] ?? 0), 0) / this.frames.length;
      value.textContent = mean.toFixed(1);
      meter.value = mean / totalLatency;
    }
  }

  addRow(name) {
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
