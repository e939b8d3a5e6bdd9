/**
 * H.264 that is good from its first frame on. Chromium's own encoder begins coarsely, whatever the bit rate, and becomes
 * finer from frame to frame; what it learns from a few frames that are left out of the file makes the others finer, and
 * the watermark in the first ones readable.
 */

import { canEncodeVideo, CustomVideoEncoder, EncodedPacket, registerEncoder } from "../vendor/mediabunny.min.mjs";

const WARM_UP = 10; // frames that are left out
const MORE = 2; // times the usual bit rate, at which small pictures lose their watermark
const QUEUE = 4; // frames that wait at most
const proven = new Set(); // sizes that this browser's own encoder takes

/** Whether this browser encodes H.264 of a size; if so, it is made by the encoder below. @returns {Promise<boolean>} */
export async function canEncodeH264(width, height, quality) {
    const can = await canEncodeVideo("avc", { width, height, quality });
    if (can) {
        proven.add(`${width}x${height}`);
    }
    return can;
}

/** The browser's encoder, which sees the first frame a few times before it counts. */
class WarmEncoder extends CustomVideoEncoder {
    /** Encoders that take a quantizer need no such thing. */
    static supports(codec, { width, height, bitrateMode }) {
        return codec === "avc" && bitrateMode !== "quantizer" && proven.has(`${width}x${height}`);
    }

    init() {
        this.ahead = null; // µs of the frames left out
        this.description = null; // of the stream: comes with the first of them
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
        while (this.encoder.encodeQueueSize >= QUEUE) {
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
