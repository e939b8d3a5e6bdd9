// Resamples sound in the audio thread, with a Hann-windowed sinc. Posts 16-bit chunks of 20 ms.

const LOBES = 8; // of the sinc on each side

class Resampler extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.step = sampleRate / rate; // input samples per output sample
    this.stretch = Math.max(this.step, 1); // when downsampling, lowers the cutoff to the new Nyquist frequency
    this.halfWidth = Math.ceil(LOBES * this.stretch);
    this.buffer = new Float32Array(this.halfWidth); // input samples still needed
    this.position = this.halfWidth; // of the next output sample in the buffer
    this.chunk = new Int16Array(rate / 50);
    this.filled = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    const buffer = new Float32Array(this.buffer.length + samples.length);
    buffer.set(this.buffer);
    buffer.set(samples, this.buffer.length);
    for (; this.position + this.halfWidth < buffer.length; this.position += this.step) {
      this.push(this.interpolate(buffer));
    }
    const consumed = Math.max(0, Math.floor(this.position) - this.halfWidth);
    this.buffer = buffer.slice(consumed);
    this.position -= consumed;
    return true;
  }

  interpolate(buffer) {
    let sum = 0;
    for (let k = Math.ceil(this.position) - this.halfWidth; k <= this.position + this.halfWidth; k++) {
      const distance = (k - this.position) / this.stretch;
      if (Math.abs(distance) >= LOBES) continue;
      const sinc = distance ? Math.sin(Math.PI * distance) / (Math.PI * distance) : 1;
      sum += (buffer[k] ?? 0) * sinc * (0.5 + 0.5 * Math.cos((Math.PI * distance) / LOBES));
    }
    return sum / this.stretch;
  }

  push(sample) {
    this.chunk[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
    if (this.filled < this.chunk.length) return;
    this.port.postMessage(this.chunk.slice());
    this.filled = 0;
  }
}

registerProcessor("resampler", Resampler);
