/**
 * Transfers expressions between people: adapts a driver's change to the source, at the driver's strength
 * (motion/expression.py). Changes are in the head's own frame, in units of δ.
 */

import { constants } from "../constants.js";
import { clamp, combined, difference } from "./geometry.js";
import { lipRatio, openLips } from "./retargeting.js";

/** @typedef {{landmarks: Float32Array, unit: number, scores: Float32Array}} FaceShape flat landmarks (111,2); scores (52,) */
/** @typedef {{expression: Float32Array, lips: ?number, scores: ?Float32Array}} Change since the reference frame */
/** @typedef {{expression: Float32Array, lips: number}} Addition what is added to a change */

/** Gaussian weights of frames at times `around` (s) for smoothing at `time`; their sum is 1. */
export function smoothingWeights(time, around) {
    const weights = around.map((each) => Math.exp(-0.5 * ((time - each) / constants.motion.expression.seconds) ** 2));
    const total = weights.reduce((before, weight) => before + weight, 0);
    return weights.map((weight) => weight / total);
}

/** The weighted sum of the additions of neighbouring frames. @param {Addition[]} additions @returns {Addition} */
export function smoothed(additions, weights) {
    const expression = new Float32Array(additions[0].expression.length);
    let lips = 0;
    additions.forEach((addition, index) => {
        addition.expression.forEach((value, place) => (expression[place] += weights[index] * value));
        lips += weights[index] * addition.lips;
    });
    return { expression, lips };
}

/** Adapts a driver's changes to one still face. */
export class OwnExpression {
    /**
     * @param {FaceShape} shape @param {import("../types.js").Motion} source
     * @param {number} lips ratio of its lips @param {boolean[]} mask (63,) the coordinates that follow the driver
     */
    constructor(networks, shape, source, lips, mask, strength = 1, lag = constants.motion.expression.lag) {
        Object.assign(this, { networks, shape, source, lips, mask, strength, lag });
    }

    /** What to add to a change that is already `strength` times the driver's. @param {Change} change */
    async addition(change) {
        const own = OwnExpression.strengthened(await this.adapted(change));
        const expression = difference(own, change.expression).map((value, index) => (this.mask[index] ? value : 0));
        return { expression, lips: change.lips === null ? 0 : this.addedToLips(change.lips) };
    }

    /** @param {number} change of the ratio of the lips */
    addedToLips(change) {
        const { lipsGain, lipsFade, fullFrom, lagFade, open, closed } = constants.motion.expression;
        const gained = lipsGain * change * Math.exp(-((change / lipsFade) ** 2));
        const goal = Math.max(this.lips + change + gained, 0);
        const fading = Math.exp(-(((goal - this.lips) / lagFade) ** 2));
        const more = clamp((goal - this.lips) / fullFrom, 0, 1);
        const shut = clamp((open - this.lips) / (open - closed), 0, 1);
        return goal + this.lag * more * shut * fading - this.lips - change;
    }

    /** The change (21,3) as this face would make it, if the driver's blendshapes are known. Depth is not adapted. */
    async adapted(change) {
        if (!change.scores) {
            return change.expression;
        }
        const { share, ofE } = constants.motion.expression;
        const { landmarks, scores, unit } = this.shape;
        const wanted = combined(scores, change.scores, (own, more) => clamp(own + more, 0, 1));
        const [offsets] = await this.networks.expression([
            { dims: [1, landmarks.length / 2, 2], data: landmarks },
            { dims: [1, scores.length], data: scores },
            { dims: [1, scores.length], data: wanted },
        ]);
        const factor = (ofE * this.strength * unit) / this.source.scale[0];
        return change.expression.map((plain, index) => {
            const [keypoint, axis] = [Math.floor(index / 3), index % 3];
            const part = axis < 2 ? share[keypoint] : 0;
            return part ? part * factor * offsets.data[2 * keypoint + axis] + (1 - part) * plain : plain;
        });
    }

    /**
     * A change (21,3) with the gain of each keypoint, which fades for large changes. A mouth that becomes narrower is not
     * narrowed further, or pursed lips would form a beak.
     */
    static strengthened(expression) {
        const { gain, fades, mouth, mouthCorners } = constants.motion.expression;
        const [right, left] = mouthCorners;
        const narrows = expression[3 * left] < expression[3 * right];
        const result = new Float32Array(expression.length);
        gain.forEach((full, keypoint) => {
            const [x, y, z] = expression.subarray(3 * keypoint, 3 * keypoint + 3);
            const factor = 1 + (full - 1) * Math.exp(-(x * x + y * y) / (fades * fades));
            const across = narrows && mouth.includes(keypoint) ? Math.min(factor, 1) : factor;
            result.set([across * x, factor * y, factor * z], 3 * keypoint);
        });
        return result;
    }

    /** The pose with the lips opened by the change and the addition. @param {Addition} added */
    posed(pose, change, added) {
        if (change.lips === null) {
            return pose;
        }
        const ratio = Math.max(this.lips + change.lips + added.lips, 0);
        return openLips(pose, ratio - lipRatio(pose));
    }
}
