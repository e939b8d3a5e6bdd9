// The microphone, whose sound the portrait speaks, and the loudspeaker, which plays it.

import { granted, stopTracks } from "./devices.js";

export const SPEECH_RATE = 16_000; // samples per second, sent and received
const PLAYBACK_DELAY = 0.06; // s, so that sound that arrives slightly late leaves no gap
const MAX_QUEUED = 0.3; // s of sound; more is dropped

export class Microphone {
  name = "microphone";
  label = "Start the microphone";
  hint = "Say something, and the portrait says it a moment later.";

  // `stream()` returns the open connection, if any.
  constructor(stream, onGone) {
    Object.assign(this, { stream, onGone });
    this.media = this.inputContext = this.loudspeaker = null;
  }

  async start() {
    this.media = await granted({ audio: { channelCount: 1 } }, this.name);
    this.media.getAudioTracks()[0].onended = () => this.onGone(this);
    this.inputContext = new AudioContext();
    this.loudspeaker = new Loudspeaker();
    await this.inputContext.audioWorklet.addModule(new URL("resampler.js", import.meta.url));
    const node = new AudioWorkletNode(this.inputContext, "resampler", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { rate: SPEECH_RATE },
    });
    node.port.onmessage = ({ data }) => this.stream()?.sendSound(data);
    this.inputContext.createMediaStreamSource(this.media).connect(node);
  }

  stop() {
    stopTracks(this.media);
    this.inputContext?.close();
    this.loudspeaker?.close();
    this.media = this.inputContext = this.loudspeaker = null;
  }
}

class Loudspeaker {
  constructor() {
    this.context = new AudioContext({ sampleRate: SPEECH_RATE });
    this.volume = this.context.createGain();
    this.volume.connect(this.context.destination);
    this.recordingOutput = this.context.createMediaStreamDestination();
    this.nextStart = 0; // when the next sound starts, by the context's clock
  }

  set isOn(isOn) {
    this.volume.gain.value = isOn ? 1 : 0;
  }

  // Queue samples (Int16Array); returns in how many ms they will be heard.
  play(samples) {
    const now = this.context.currentTime;
    if (this.nextStart > now + MAX_QUEUED) return 0;
    const begin = this.nextStart > now ? this.nextStart : now + PLAYBACK_DELAY;
    this.nextStart = begin + samples.length / SPEECH_RATE;
    if (samples.length) {
      const buffer = this.context.createBuffer(1, samples.length, SPEECH_RATE);
      buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32768), 0);
      const source = new AudioBufferSourceNode(this.context, { buffer });
      source.connect(this.volume);
      source.connect(this.recordingOutput);
      source.start(begin);
    }
    return 1000 * (begin - now);
  }

  close() {
    this.context.close();
  }
}
