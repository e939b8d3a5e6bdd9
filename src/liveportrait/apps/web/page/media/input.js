/** A driving video: its frames at a constant rate, and its sound. */

import { ALL_FORMATS, BlobSource, Input, VideoSampleSink } from "../vendor/mediabunny.min.js";

import { UserError } from "../errors.js";
import { pixelsOfFrame } from "./frames.js";

const MAX_RATE = 60; // frames/s: faster videos are read at this rate
const COUNTED = 200; // packets from which the rate is measured
const NEAR = 0.01; // frames/s: a measured rate this close to a standard one is taken to be that

/** A visitor's video file. */
export class VideoInput {
    /** @param {File} file Throws a `UserError` if this browser cannot read it. */
    static async open(file) {
        const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
        const track = await input.getPrimaryVideoTrack().catch(() => null);
        if (!track) {
            input.dispose();
            throw new UserError(`${file.name} is not a video that this browser can read: choose an MP4, MOV or WebM file.`);
        }
        if (!(await track.canDecode())) {
            const codec = (await track.getCodec()) ?? "an unknown codec";
            input.dispose();
            const other = codec === "avc" ? "WebM" : "H.264";
            throw new UserError(`This browser cannot decode ${file.name} (${codec}): convert it to ${other}, or use another browser.`);
        }
        const made = new VideoInput();
        const { averagePacketRate } = await track.computePacketStats(COUNTED);
        const rate = fractionOf(Math.min(averagePacketRate, MAX_RATE));
        const begin = await track.getFirstTimestamp();
        const duration = (await track.computeDuration()) - begin;
        const length = Math.max(1, Math.round((duration * rate[0]) / rate[1]));
        const sound = await input.getPrimaryAudioTrack().catch(() => null);
        return Object.assign(made, { input, track, name: file.name, rate, length, begin, sound });
    }

    /** The frames in order, each valid until the next. @returns {AsyncGenerator<import("../types.js").Picture>} */
    async *frames() {
        const [numerator, denominator] = this.rate;
        const { begin, length } = this;
        // Slightly after each frame starts, since timestamps are rounded.
        const times = Array.from({ length }, (_, index) => begin + ((index + 0.01) * denominator) / numerator);
        const sink = new VideoSampleSink(this.track);
        let last = null;
        try {
            for await (const sample of sink.samplesAtTimestamps(times)) {
                if (sample) {
                    last = await pixelsOfSample(sample);
                }
                if (last) {
                    yield last;
                }
            }
        } catch (error) {
            if (error.name === "UserError" || error.name === "InputDisposedError") {
                throw error;
            }
            throw new UserError(`${this.name} cannot be decoded: it is damaged, or this browser does not know its codec.`);
        }
    }

    /** Release the file. */
    close() {
        this.input.dispose();
    }
}

/** A rate as a fraction: an integer, an NTSC rate, or thousandths. @returns {[number, number]} */
function fractionOf(rate) {
    for (const denominator of [1, 1001 / 1000]) {
        const whole = Math.round(rate * denominator);
        if (Math.abs(whole / denominator - rate) < NEAR) {
            return denominator === 1 ? [whole, 1] : [1000 * whole, 1001];
        }
    }
    return [Math.round(1000 * rate), 1000];
}

async function pixelsOfSample(sample) {
    const frame = sample.toVideoFrame();
    try {
        return await pixelsOfFrame(frame, "The video", sample.rotation);
    } finally {
        frame.close();
        sample.close();
    }
}
