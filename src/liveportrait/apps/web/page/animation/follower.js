/**
 * The motion of a face that is seen frame by frame, in a video or by a camera (animation/live.py): it starts from the
 * first frame that shows the face; M looks at that one alone, and every other is measured against it.
 */

import { constants } from "../constants.js";
import { toTensor } from "../face/crop.js";
import { openingRatios } from "../face/measures.js";
import { smoothingWeights } from "../motion/expression.js";
import { steadied } from "../motion/framing.js";
import { motionFromHeads, seenHead, seenKeypoints, snapToLandmarks, through, throughHead } from "../motion/landmarks.js";
import { motionOf } from "./animator.js";

/**
 * @typedef {object} Sight one frame, as the worker for faces saw it
 * @property {?import("../types.js").Face} face null where none is in sight
 * @property {Float32Array} scores (52,) blendshapes
 * @property {?Float32Array} cues (5,) what the mouth shows
 * @property {?{picture: import("../types.js").Picture, window: import("../types.js").CropWindow}} crop of the first face
 */

/** Makes motion of what is seen. */
export class Follower {
    /** @param {import("../types.js").Networks} networks @param {number} fps of the frames */
    constructor(networks, fps) {
        Object.assign(this, { networks, fps, start: null, last: null, past: [], count: 0 });
    }

    /** The driver's next frame; null before the first face, the last one again while none is in sight. @param {Sight} sight */
    async push({ face, scores, cues, crop }) {
        this.count += 1;
        if (!face) {
            return this.last;
        }
        const head = seenHead(face.landmarks);
        const ratios = openingRatios(face.landmarks);
        if (!this.start) {
            await this.begin(face, head, crop, { ratios, scores });
        }
        const { reference, window } = this;
        const moved = motionFromHeads(reference, this.head, throughHead(head, window), window.size);
        const driving = { motion: steadied(moved, reference, reference), ratios, scores, cues, around: null, start: null };
        this.last = { ...driving, around: this.around(driving) };
        return this.last;
    }

    async begin(face, head, { picture, window }, known) {
        const motion = motionOf(await this.networks.motion([toTensor(picture)]));
        const seen = through(seenKeypoints(face.landmarks), window);
        const reference = snapToLandmarks(motion, seen, window.size);
        Object.assign(this, { reference, window, head: throughHead(head, window) });
        this.start = { motion: reference, ...known, cues: null, around: null, start: null };
    }

    /** The frames before, as far as they count, and the weights of them all. */
    around(driving) {
        const now = this.count / this.fps;
        const near = this.past.filter(({ time }) => now - time <= constants.motion.expression.reach);
        this.past = [...near, { time: now, driving }];
        const weights = smoothingWeights(now, this.past.map(({ time }) => time));
        return { frames: this.past.map((each) => each.driving), weights };
    }
}
