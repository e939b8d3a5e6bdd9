/** The worker that renders frames and writes the video. */

import { Animator } from "../animation/animator.js";
import { Follower } from "../animation/follower.js";
import { TemplatePlay, VideoPlay } from "../animation/drivers.js";
import { UserError } from "../errors.js";
import { VideoInput } from "../media/input.js";
import { removeUnfinished, VideoOutput } from "../media/output.js";
import { readTemplate } from "../motion/templates.js";
import { fetched } from "../runtime.js";
import { answer, Calls, tell } from "./calls.js";
import { Lanes } from "./lanes.js";
import { load } from "./loading.js";

const NETWORKS = ["appearance", "render", "stitching", "expression", "motion"];
const LATER = ["eye_retargeting"]; // needed only by the eye sliders

let animator = null;
let manifest = null;
let lanes = null;
let startLanes = () => {}; // starts missing workers
let faces = null; // the worker that finds them
let photo = null; // the photo and the face found in it, see `Animator.open`
let portrait = null;
let canvas = null;
let pen = null;
let stopping = null; // an AbortController while a video is made
let live = null; // a `LiveShow` while a camera drives the portrait

answer({
    async start({ canvas: given, port, ...wish }) {
        canvas = given;
        pen = canvas.getContext("2d", { alpha: false });
        faces = new Calls(port);
        const loaded = await load(NETWORKS, wish, LATER);
        manifest = loaded.manifest;
        const features = Object.keys(manifest.graphs.appearance.outputs).length;
        lanes = new Lanes(loaded.networks.render, features, loaded.choice.threads);
        startLanes = () => lanes.open(wish, (threads) => tell({ kind: "threads", threads }));
        animator = new Animator({ ...loaded.networks, render: lanes.render }, () => lanes.depth);
        await removeUnfinished();
        const { sliders } = manifest.constants.motion;
        return { runtime: loaded.choice.reason, motions: Object.keys(manifest.motions), sliders };
    },

    /** Open a photo, or another face of the same one: then `seen` holds the face alone. */
    async open(seen) {
        photo = { ...photo, ...seen };
        const opened = await animator.open(photo);
        portrait?.close();
        portrait = opened;
        startLanes(); // while the visitor chooses a motion
    },

    /** Show the unchanged portrait: the whole photo or only the face. @param {"photo" | "face"} wanted */
    view(wanted) {
        portrait.show(wanted);
        show(portrait.picture);
        return { width: portrait.picture.width, height: portrait.picture.height };
    },

    async edit(sliders) {
        show(await portrait.edit(sliders));
    },

    picture() {
        return canvas.convertToBlob({ type: "image/png" });
    },

    animate({ motion, transfer, webm }) {
        return stoppable((signal) => animate(motion, transfer, webm, signal));
    },

    stop() {
        stopping?.abort();
    },

    /**
     * Show the portrait driven by a camera's frame. Frames keep their order.
     * @param {{sight: import("../animation/sight.js").Sight, begins: boolean, rate: number, transfer: object}} asked
     * @returns {Promise<number>} frames that may be requested in parallel
     */
    async follow({ sight, begins, rate, transfer }) {
        if (begins) {
            live = new LiveShow(portrait, rate, transfer);
            lanes.isLive = true;
            startLanes();
        }
        await live.next(sight);
        return lanes.depth;
    },

    /** Show the unchanged portrait, once all requested frames were shown. */
    async rest() {
        lanes.isLive = false;
        await live?.shown;
        live = null;
        show(portrait.picture);
    },
});

/** A portrait driven by a camera: frames may be rendered in parallel, but poses and pictures are made in order. */
class LiveShow {
    constructor(portrait, rate, options) {
        Object.assign(this, { portrait, options, transfer: null });
        this.follower = new Follower(portrait.networks, rate);
        this.posed = this.shown = Promise.resolve(); // of the last frame
    }

    /** Resolves once the frame is shown. @param {import("../animation/sight.js").Sight} sight */
    async next(sight) {
        const begun = this.posed.then(() => this.begin(sight));
        const shown = this.shown.then(async () => {
            const frame = await begun;
            if (frame) {
                show(this.portrait.compose(await frame.layers, "live"));
            }
        });
        [this.posed, this.shown] = [begun, shown].map((step) => step.catch(() => {}));
        await shown;
    }

    async begin(sight) {
        const driving = await this.follower.push(sight);
        if (!driving) {
            return null;
        }
        this.transfer ??= this.portrait.transfer(this.follower.start, this.options);
        return this.portrait.startFrame(this.transfer, driving);
    }
}

/** Show a picture on the page. @param {import("../types.js").Picture} picture */
function show({ data, width, height }) {
    if (canvas.width !== width || canvas.height !== height) {
        Object.assign(canvas, { width, height });
    }
    pen.putImageData(new ImageData(data, width, height), 0, 0);
}

/** Do work that `stop` can cancel. @param {(signal: AbortSignal) => Promise<any>} work */
async function stoppable(work) {
    if (stopping) {
        throw new UserError("Work is already in progress: cancel it first.");
    }
    const { signal } = (stopping = new AbortController());
    try {
        return await work(signal);
    } catch (error) {
        show(portrait.picture);
        throw error;
    } finally {
        stopping = null;
    }
}

async function animate(motion, transfer, webm, signal) {
    const { driver, sound, close } = await openDriver(motion, signal);
    const { width, height } = portrait.picture;
    const begun = performance.now();
    let output = null;
    let done = 0;
    try {
        output = await VideoOutput.open({ width, height, rate: driver.rate, webm }, sound);
        for await (const frame of portrait.drive(driver, transfer)) {
            signal.throwIfAborted();
            show(frame);
            await output.add(frame, done);
            done += 1;
            const rate = (1000 * done) / (performance.now() - begun);
            tell({ kind: "frame", frame: done, frames: driver.length, rate });
        }
        const file = await output.finish();
        const seconds = (performance.now() - begun) / 1000;
        const name = `${typeof motion === "string" ? motion : "animated"}.${output.suffix}`;
        return { file, name, frames: done, seconds, note: output.note };
    } catch (error) {
        await output?.cancel();
        throw error;
    } finally {
        await close();
    }
}

/** The driver of a bundled motion or of a visitor's video. @param {string | File} motion @param {AbortSignal} signal */
async function openDriver(motion, signal) {
    if (typeof motion === "string") {
        const data = await fetched(manifest.motions[motion], manifest);
        return { driver: new TemplatePlay(readTemplate(data.buffer, motion)), sound: null, close() {} };
    }
    const video = await VideoInput.open(motion);
    const stop = () => faces.call("stop");
    signal.addEventListener("abort", stop);
    try {
        const driver = await VideoPlay.open(video, await faces.call("track", motion), animator.networks);
        return { driver, sound: video.sound, close: () => video.close() };
    } catch (error) {
        video.close();
        throw error;
    } finally {
        signal.removeEventListener("abort", stop);
    }
}
