/** A video file, written frame by frame: MP4 or WebM in a codec that this browser encodes, in the browser's storage. */

import {
    BufferTarget,
    canEncodeVideo,
    EncodedAudioPacketSource,
    EncodedPacketSink,
    Mp4OutputFormat,
    Output,
    Quality,
    StreamTarget,
    VideoSample,
    VideoSampleSource,
    WebMOutputFormat,
} from "../vendor/mediabunny.min.js";

import { UserError } from "../errors.js";
import { canEncodeH264 } from "./encoder.js";

const CODECS = ["avc", "vp9", "av1"]; // in order of preference: H.264 plays everywhere
const WEBM_CODECS = ["vp9", "av1", "vp8"];
const QUALITY = new Quality("very-high");
const KEY_FRAMES = 2; // s between key frames
const PREFIX = "liveportrait-"; // of files in the browser's storage

/** Writes one video. */
export class VideoOutput {
    /**
     * @param {{width: number, height: number, rate: [number, number], webm?: boolean}} options sides are even px
     * @param {?import("mediabunny").InputAudioTrack} sound whose packets are copied as they are
     */
    static async open(options, sound = null) {
        const { width, height, webm = false } = options;
        const format = webm ? new WebMOutputFormat() : new Mp4OutputFormat({ fastStart: false });
        const codec = await firstEncodable(webm ? WEBM_CODECS : CODECS, width, height);
        if (!codec) {
            throw new UserError(
                `This browser cannot encode video of ${width}x${height} px: use a current Chrome, Edge, Firefox or Safari, or a smaller photo.`,
            );
        }
        const made = new VideoOutput();
        Object.assign(made, { options, codec, kind: webm ? "video/webm" : "video/mp4", suffix: webm ? "webm" : "mp4" });
        made.store = await Store.open();
        made.output = new Output({ format, target: made.store.target });
        made.video = new VideoSampleSource({ codec, quality: QUALITY, keyFrameInterval: KEY_FRAMES });
        made.output.addVideoTrack(made.video, { frameRate: options.rate[0] / options.rate[1] });
        await made.addSound(sound, format);
        await made.output.start();
        return made;
    }

    async addSound(track, format) {
        const codec = await track?.getCodec();
        this.silent = Boolean(track) && !(codec && format.getSupportedAudioCodecs().includes(codec));
        if (!track || this.silent) {
            return;
        }
        this.audio = new EncodedAudioPacketSource(codec);
        this.output.addAudioTrack(this.audio);
        this.packets = new EncodedPacketSink(track).packets();
        this.decoderConfig = await track.getDecoderConfig();
        this.waiting = (await this.packets.next()).value ?? null;
    }

    /** What the visitor should know about the file; may be empty. */
    get note() {
        const notes = [];
        if (this.suffix === "mp4" && this.codec !== "avc") {
            notes.push(`This browser cannot encode H.264: the MP4 holds ${this.codec.toUpperCase()}, which some players cannot play.`);
        }
        if (this.silent) {
            notes.push("The sound of the driving video is in a format that this file cannot hold, so it was left out.");
        }
        return notes.join(" ");
    }

    /** Add the next frame. @param {import("../types.js").Picture} picture @param {number} index counted from 0 */
    async add({ data, width, height }, index) {
        const [numerator, denominator] = this.options.rate;
        const time = (index * denominator) / numerator;
        const sample = new VideoSample(data, {
            format: "RGBA",
            codedWidth: width,
            codedHeight: height,
            timestamp: time,
            duration: denominator / numerator,
        });
        try {
            await this.video.add(sample);
        } finally {
            sample.close();
        }
        await this.addSoundUntil(time + denominator / numerator);
    }

    async addSoundUntil(time) {
        while (this.waiting && this.waiting.timestamp < time) {
            await this.audio.add(this.waiting, { decoderConfig: this.decoderConfig });
            this.waiting = (await this.packets.next()).value ?? null;
        }
    }

    /** Finish the file. @returns {Promise<File | Blob>} */
    async finish() {
        await this.packets?.return();
        await this.output.finalize();
        return this.store.file(this.kind);
    }

    /** Stop and delete the file. */
    async cancel() {
        await this.packets?.return();
        await this.output.cancel();
        await this.store.remove();
    }
}

async function firstEncodable(codecs, width, height) {
    for (const codec of codecs) {
        const can = codec === "avc" ? canEncodeH264(width, height, QUALITY) : canEncodeVideo(codec, { width, height, quality: QUALITY });
        if (await can) {
            return codec;
        }
    }
    return null;
}

/** Delete the files of unfinished videos, whose tabs were closed. */
export async function removeUnfinished() {
    const folder = await navigator.storage?.getDirectory().catch(() => null);
    await (folder && removeOld(folder));
}

let release = async () => {}; // unlocks the last file, which the next one replaces

/** A file in the browser's storage, or in memory if the browser has none. */
class Store {
    static async open() {
        const made = new Store();
        try {
            made.folder = await navigator.storage.getDirectory();
            await release();
            await removeOld(made.folder);
            made.name = `${PREFIX}${crypto.randomUUID()}`;
            await hold(made.name);
            made.handle = await made.folder.getFileHandle(made.name, { create: true });
            const access = (made.access = await made.handle.createSyncAccessHandle());
            const stream = new WritableStream({
                write({ data, position }) {
                    access.write(data, { at: position });
                },
            });
            made.target = new StreamTarget(stream, { chunked: true, chunkSize: 2 ** 20 });
        } catch {
            made.handle = null;
            made.target = new BufferTarget();
        }
        return made;
    }

    async file(kind) {
        if (!this.handle) {
            return new Blob([this.target.buffer], { type: kind });
        }
        this.access.flush();
        this.access.close();
        return new File([await this.handle.getFile()], this.name, { type: kind });
    }

    async remove() {
        if (this.handle) {
            this.access.close();
            await this.folder.removeEntry(this.name);
        }
    }
}

/** Lock a name until this tab is closed or begins its next file. */
function hold(name) {
    return new Promise((held) => {
        let end;
        const released = navigator.locks.request(name, () => {
            held();
            return new Promise((resolve) => (end = resolve));
        });
        release = () => {
            end();
            return released;
        };
    });
}

/** Delete files that this tab no longer needs, and those of closed tabs. */
async function removeOld(folder) {
    const { held } = await navigator.locks.query();
    const names = new Set(held.map((lock) => lock.name));
    for await (const name of folder.keys()) {
        if (name.startsWith(PREFIX) && !names.has(name)) {
            await folder.removeEntry(name).catch(() => {});
        }
    }
}
