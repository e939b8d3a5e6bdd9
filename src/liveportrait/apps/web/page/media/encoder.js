/**
 * H.264 of good quality from the first frame on. Chromium's encoder starts with coarse frames at any bit rate and
 * improves from frame to frame. A few frames that are left out of the file warm it up, so that the watermark is readable
 * in the first frames too.
 */

import { canEncodeVideo, CustomVideoEncoder, EncodedPacket, registerEncoder } from "../vendor/mediabunny.min.js";

const WARM_UP = 10; // frames that are left out
const MORE = 2; // factor on the bit rate: the usual one destroys the watermark of small pictures
const MAX_QUEUE = 4; // frames
const proven = new Set(); // sizes that this browser's encoder accepts

/** Whether this browser encodes H.264 of a size; if so, the encoder below is used. @returns {Promise<boolean>} */
export async function canEncodeH264(width, height, quality) {
    const can = await canEncodeVideo("avc", { width, height, quality });
    if (can) {
        proven.add(`${width}x${height}`);
    }
    return can;
}

/** The browser's encoder, warmed up by a few copies of the first frame. */
class WarmEncoder extends CustomVideoEncoder {
    /** Encoders with a quantizer need no warm-up. */
    static supports(codec, { width, height, bitrateMode }) {
        return codec === "avc" && bitrateMode !== "quantizer" && proven.has(`${width}x${height}`);
    }

    init() {
        this.ahead = null; // duration of the warm-up frames, µs
        this.description = null; // of the stream; comes with the first frame
        this.encoder = new VideoEncoder({
            output: (chunk, meta) => this.pass(chunk, meta),
            error: (error) => this.onError(error),
        });
        this.encoder.configure({ ...this.config, alpha: "discard", bitrate: MORE * this.config.bitrate });
    }

    async encode(sample, options) {
        const { microsecondTimestamp: timestamp, microsecondDuration: duration } = sample;
        if (this.ahead === null) {
            this.ahead = WARM_UP * duration;
            for (let index = 0; index < WARM_UP; index++) {
                await this.put(sample, timestamp + index * duration, { keyFrame: index === 0 });
            }
        }
        await this.put(sample, timestamp + this.ahead, options);
    }

    async put(sample, timestamp, options) {
        const given = sample.toVideoFrame();
        const frame = new VideoFrame(given, { timestamp });
        given.close();
        this.encoder.encode(frame, options);
        frame.close();
        while (this.encoder.encodeQueueSize >= MAX_QUEUE) {
            await new Promise((taken) => this.encoder.addEventListener("dequeue", taken, { once: true }));
        }
    }

    pass(chunk, meta) {
        this.description = meta?.decoderConfig ?? this.description;
        const timestamp = chunk.timestamp - this.ahead;
        if (timestamp >= 0) {
            const packet = EncodedPacket.fromEncodedChunk(chunk).clone({ timestamp: timestamp / 1e6 });
            this.onPacket(packet, { ...meta, decoderConfig: this.description });
        }
    }

    flush() {
        return this.encoder.flush();
    }

    close() {
        if (this.encoder.state !== "closed") {
            this.encoder.close();
        }
    }
}

registerEncoder(WarmEncoder);
