// Brings sound to another rate, within the audio thread: a sinc under a Hann window. Gives pieces of 20 ms, 16 bits.

const LOBES = 8; // of the sinc to each side

class Resampler extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.step = sampleRate / rate; // samples here for each one there
    this.stretch = Math.max(this.step, 1); // going down, what the new rate cannot hold is cut off
    this.reach = Math.ceil(LOBES * this.stretch);
    this.known = new Float32Array(this.reach); // samples that are still needed
    this.place = this.reach; // of the next sample there, among them
    this.piece = new Int16Array(rate / 50);
    this.filled = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    const known = new Float32Array(this.known.length + samples.length);
    known.set(this.known);
    known.set(samples, this.known.length);
    for (; this.place + this.reach < known.length; this.place += this.step) this.give(this.at(known));
    const passed = Math.max(0, Math.floor(this.place) - this.reach);
    this.known = known.slice(passed);
    this.place -= passed;
    return true;
  }

  at(known) {
    let sum = 0;
    for (let k = Math.ceil(this.place) - this.reach; k <= this.place + this.reach; k++) {
      const away = (k - this.place) / this.stretch;
      if (Math.abs(away) >= LOBES) continue;
      const sinc = away ? Math.sin(Math.PI * away) / (Math.PI * away) : 1;
      sum += (known[k] ?? 0) * sinc * (0.5 + 0.5 * Math.cos((Math.PI * away) / LOBES));
    }
    return sum / this.stretch;
  }

  give(sample) {
    this.piece[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
    if (this.filled < this.piece.length) return;
    this.port.postMessage(this.piece.slice());
    this.filled = 0;
  }
}

registerProcessor("resampler", Resampler);
