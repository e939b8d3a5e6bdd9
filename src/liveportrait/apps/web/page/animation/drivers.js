/** Drivers of finite length: a bundled motion, or a video whose face was tracked (animation/driver). */

import { toTensor } from "../face/crop.js";
import { steadied } from "../motion/framing.js";
import { motionFromHeads, snapToLandmarks, through, throughHead } from "../motion/landmarks.js";
import { surroundings, TemplateDriver } from "../motion/templates.js";
import { motionOf } from "./animator.js";

/** @typedef {import("../motion/templates.js").Driving} Driving */

/** A bundled motion, frame by frame. */
export class TemplatePlay extends TemplateDriver {
    /** @returns {AsyncGenerator<Driving>} */
    async *play() {
        for (let index = 0; index < this.length; index++) {
            yield this.at(index);
        }
    }
}

/**
 * A video whose face was tracked to the end, as `animate` does it. In each scene, head poses are relative to the first
 * frame that shows the face, expressions to the frame that is most like the portrait.
 */
export class VideoPlay {
    /**
     * @param {{name: string, rate: [number, number]}} video @param {import("./tracking.js").Track} track of its face
     * @param {import("../types.js").Networks} networks
     */
    static async open({ name, rate }, { frames, scenes }, networks) {
        const motions = [];
        for (const scene of scenes) {
            const found = motionOf(await networks.motion([toTensor(scene.crop)]));
            const { window, head } = frames[scene.reference];
            motions.push(snapToLandmarks(found, through(head.keypoints, window), window.size));
        }
        const made = new VideoPlay();
        const [home] = motions;
        Object.assign(made, { name, rate, fps: rate[0] / rate[1], length: frames.length });
        /** @type {Driving[]} */
        made.frames = heldFrames(frames).map(({ number, ratios, scores, cues }, place) => {
            const shown = number <= place; // until the first face appears there is no motion
            const { head, window, scene } = frames[number];
            const reference = frames[scenes[scene].reference];
            const first = throughHead(reference.head, reference.window);
            const moved = motionFromHeads(motions[scene], first, throughHead(head, window), reference.window.size);
            const motion = shown ? steadied(moved, motions[scene], home) : home;
            return { motion, ratios, scores, cues, around: null, start: null };
        });
        const starts = scenes.map(({ similar }, scene) => {
            const { ratios, scores, motion } = made.frames[similar];
            const { expression } = motion;
            return { motion: { ...home, canonical: motions[scene].canonical, expression }, ratios, scores, cues: null, around: null, start: null };
        });
        made.frames.forEach((frame, place) => (frame.start = starts[frames[place].scene]));
        made.start = starts[0];
        return made;
    }

    /** @returns {AsyncGenerator<Driving>} */
    async *play() {
        for (let index = 0; index < this.length; index++) {
            yield { ...this.frames[index], around: surroundings(this.frames, index, this.fps) };
        }
    }
}

/** The measurements of every frame; a frame without a face has those of the last frame with one, or of the first. */
function heldFrames(frames) {
    let number = frames.findIndex(({ head }) => head);
    return frames.map(({ head }, place) => {
        number = head ? place : number;
        const { ratios, scores, cues } = frames[number];
        return { number, ratios, scores, cues };
    });
}
