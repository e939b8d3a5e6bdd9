// The microphone, for a portrait that says what is said into it; and the loudspeaker, which says it again.

import { granted, stopTracks } from "./devices.js";

export const SPEECH_RATE = 16_000; // samples a second of what is sent and comes back
const SLACK = 0.06; // s that sound waits to be heard, so that what comes a little late leaves no gap
const MOST_BEHIND = 0.3; // s; what comes while more waits is left out

export class Microphone {
  name = "microphone";
  label = "Start the microphone";
  hint = "Say something: the portrait says it a moment later.";

  // `stream()` is the connection to send by, if there is one.
  constructor(stream, onGone) {
    Object.assign(this, { stream, onGone });
    this.media = this.ear = this.loudspeaker = null;
  }

  async start() {
    this.media = await granted({ audio: { channelCount: 1 } }, this.name);
    this.media.getAudioTracks()[0].onended = () => this.onGone(this);
    this.ear = new AudioContext();
    this.loudspeaker = new Loudspeaker();
    await this.ear.audioWorklet.addModule(new URL("resampler.js", import.meta.url));
    const node = new AudioWorkletNode(this.ear, "resampler", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { rate: SPEECH_RATE },
    });
    node.port.onmessage = ({ data }) => this.stream()?.sendSound(data);
    this.ear.createMediaStreamSource(this.media).connect(node);
  }

  stop() {
    stopTracks(this.media);
    this.ear?.close();
    this.loudspeaker?.close();
    this.media = this.ear = this.loudspeaker = null;
  }
}

class Loudspeaker {
  constructor() {
    this.context = new AudioContext({ sampleRate: SPEECH_RATE });
    this.volume = this.context.createGain();
    this.volume.connect(this.context.destination);
    this.tape = this.context.createMediaStreamDestination();
    this.next = 0; // when what comes next begins, by the context's clock
  }

  set isOn(isOn) {
    this.volume.gain.value = isOn ? 1 : 0;
  }

  // Say samples (Int16Array) after those before; in how many ms they are heard.
  say(samples) {
    const now = this.context.currentTime;
    if (this.next > now + MOST_BEHIND) return 0;
    const begin = this.next > now ? this.next : now + SLACK;
    this.next = begin + samples.length / SPEECH_RATE;
    if (samples.length) {
      const buffer = this.context.createBuffer(1, samples.length, SPEECH_RATE);
      buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32768), 0);
      const source = new AudioBufferSourceNode(this.context, { buffer });
      source.connect(this.volume);
      source.connect(this.tape);
      source.start(begin);
    }
    return 1000 * (begin - now);
  }

  close() {
    this.context.close();
  }
}
