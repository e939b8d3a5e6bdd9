/** The worker that renders: networks of the portrait, frames, and the video that they become. */

import { Animator } from "../animation/animator.js";
import { UserError } from "../errors.js";
import { VideoOutput } from "../media/output.js";
import { readTemplate, TemplateDriver } from "../motion/templates.js";
import { fetched } from "../runtime.js";
import { answer, tell } from "./calls.js";
import { load } from "./loading.js";

const NETWORKS = ["appearance", "render", "stitching", "expression", "eye_retargeting", "motion"];

let animator = null;
let manifest = null;
let portrait = null;
let canvas = null;
let pen = null;
let stopping = null; // an AbortController while something is made

answer({
    async start({ canvas: given, ...wish }) {
        canvas = given;
        pen = canvas.getContext("2d", { alpha: false });
        const loaded = await load(NETWORKS, wish);
        manifest = loaded.manifest;
        animator = new Animator(loaded.networks);
        const { sliders } = manifest.constants.motion;
        return { runtime: loaded.choice.told, motions: Object.keys(manifest.motions), sliders };
    },

    async open(seen) {
        portrait = await animator.open(seen);
        show(portrait.picture);
        return { width: portrait.picture.width, height: portrait.picture.height };
    },

    async edit(sliders) {
        show(await portrait.edit(sliders));
    },

    animate({ motion, transfer, webm }) {
        return stoppable((signal) => animate(motion, transfer, webm, signal));
    },

    stop() {
        stopping?.abort();
    },
});

/** Show a picture on the page. @param {import("../types.js").Picture} picture */
function show({ data, width, height }) {
    if (canvas.width !== width || canvas.height !== height) {
        Object.assign(canvas, { width, height });
    }
    pen.putImageData(new ImageData(data, width, height), 0, 0);
}

/** Do something that `stop` stops. @param {(signal: AbortSignal) => Promise<any>} work */
async function stoppable(work) {
    if (stopping) {
        throw new UserError("Something is being made already: cancel it first.");
    }
    stopping = new AbortController();
    try {
        return await work(stopping.signal);
    } catch (error) {
        if (stopping.signal.aborted) {
            show(portrait.picture);
        }
        throw error;
    } finally {
        stopping = null;
    }
}

async function animate(motion, transfer, webm, signal) {
    const driver = await openDriver(motion);
    const { picture } = portrait;
    const output = await VideoOutput.open({ width: picture.width, height: picture.height, rate: driver.rate, webm });
    const begun = performance.now();
    let done = 0;
    try {
        for await (const frame of portrait.drive(driver, transfer)) {
            signal.throwIfAborted();
            show(frame);
            await output.add(frame, done);
            done += 1;
            const rate = (1000 * done) / (performance.now() - begun);
            tell({ kind: "frame", frame: done, frames: driver.length, rate });
        }
    } catch (error) {
        await output.cancel();
        throw error;
    }
    const file = await output.finish();
    const seconds = (performance.now() - begun) / 1000;
    const name = `${typeof motion === "string" ? motion : "animated"}.${output.suffix}`;
    return { file, name, frames: done, seconds, codec: output.codec, note: "" };
}

/** The driver in a bundled motion. @param {string} name */
async function openDriver(name) {
    const data = await fetched(manifest.motions[name], manifest);
    return new TemplateDriver(readTemplate(data.buffer, name));
}
