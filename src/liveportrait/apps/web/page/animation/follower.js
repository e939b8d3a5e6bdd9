/**
 * The motion of a face tracked frame by frame, in a video or by a camera (animation/live.py). It starts from the first
 * frame that shows the face, and again after a cut. Only these frames go through M; all others are measured relative to
 * them.
 */

import { constants } from "../constants.js";
import { drivingSquare, toTensor } from "../face/crop.js";
import { openingRatios } from "../face/measures.js";
import { smoothingWeights } from "../motion/expression.js";
import { steadied } from "../motion/framing.js";
import { motionFromHeads, seenHead, seenKeypoints, snapToLandmarks, through, throughHead } from "../motion/landmarks.js";
import { motionOf } from "./animator.js";
import { LiveWindow } from "./windows.js";

/** @typedef {import("./sight.js").Sight} Sight */

/** Turns what frames show into motion. */
export class Follower {
    /** @param {import("../types.js").Networks} networks @param {number} fps of the frames */
    constructor(networks, fps) {
        Object.assign(this, { networks, fps, start: null, home: null, scene: null, last: null, past: [] });
    }

    /** The driver's next frame: null before the first face, repeated while no face is visible. @param {Sight} sight */
    async push({ face, scores, cues, crop }) {
        if (!face) {
            return this.last;
        }
        const head = seenHead(face.landmarks);
        const ratios = openingRatios(face.landmarks);
        if (crop) {
            await this.begin(face, head, crop, { ratios, scores });
        }
        const { scene, home } = this;
        const window = scene.gliding.next(head);
        const moved = motionFromHeads(scene.motion, scene.head, throughHead(head, window), window.size);
        const motion = steadied(moved, scene.motion, home);
        const driving = { motion, ratios, scores, cues, around: null, start: scene.start };
        this.last = { ...driving, around: this.around(driving) };
        return this.last;
    }

    /** Use a frame as the reference of expressions; head poses stay relative to the first frame. */
    async begin(face, head, { picture, window }, known) {
        const found = motionOf(await this.networks.motion([toTensor(picture)]));
        const motion = snapToLandmarks(found, through(seenKeypoints(face.landmarks), window), window.size);
        this.home ??= motion;
        const { canonical, expression } = motion;
        const start = { motion: { ...this.home, canonical, expression }, ...known, cues: null, around: null, start: null };
        this.start ??= start;
        const gliding = new LiveWindow(head, drivingSquare(face.landmarks), this.fps);
        this.scene = { motion, start, gliding, head: throughHead(head, window) };
        this.past = [];
    }

    /** This frame and the earlier ones that smoothing uses, with their weights. */
    around(driving) {
        const frames = [...this.past, driving];
        const times = frames.map((_, index) => index / this.fps);
        this.past = frames.slice(-Math.ceil(constants.motion.expression.reach * this.fps));
        return { frames, weights: smoothingWeights(times.at(-1), times) };
    }
}
