/**
 * Scene cuts: frames that show something different from the one before (media/cuts.py).
 *
 * @typedef {import("../types.js").Picture} Picture
 */

import { constants } from "../constants.js";
import { resizeArea, resizeLinear } from "./resampling.js";

/**
 * Says for each frame, in order, whether a new scene begins: the change is large, and larger than usual.
 * `rule`: difference, ratio, margin and histogram, see constants.face.cuts.
 */
export class CutFinder {
    constructor(rule = constants.face.cuts.wholeFrame) {
        this.rule = rule;
        this.last = null;
        this.recent = [];
    }

    /** Whether a frame begins a new scene; the first one does not. @param {Picture} picture */
    next(picture) {
        const { sampled, small } = constants.face.cuts;
        const { data } = resizeArea(resizeLinear(picture, ...sampled), ...small);
        const last = this.last;
        this.last = data;
        return last !== null && this.isCut({ difference: meanDifference(last, data, [0, 1, 2]), histogram: 0 });
    }

    /** Whether a change is a cut, given earlier changes; after a cut the usual change is measured again. */
    isCut(change) {
        const usual = this.recent.length ? median(this.recent) : 0;
        this.recent.push(change.difference);
        if (this.recent.length > constants.face.cuts.memory) this.recent.shift();
        const least = Math.max(this.rule.difference, this.rule.ratio * (usual + this.rule.margin));
        if (change.difference < least || change.histogram < this.rule.histogram) return false;
        this.recent = [];
        return true;
    }
}

/** The change between two pictures, in brightness and colours of a thumbnail of each. */
export function regionChange(before, after) {
    const { regionSide } = constants.face.cuts;
    const [first, second] = [before, after].map((picture) => reduced(picture, regionSide));
    const [own, other] = [first, second].map(histogram);
    return {
        difference: meanDifference(grey(first), grey(second), [0]),
        histogram: own.reduce((sum, share, index) => sum + Math.abs(share - other[index]), 0) / 2,
    };
}

/** By area if it shrinks; OpenCV enlarges bilinearly. */
function reduced(picture, side) {
    const shrinks = picture.width >= side && picture.height >= side;
    return shrinks ? resizeArea(picture, side, side) : resizeLinear(picture, side, side);
}

/** Brightness, in the first of four bytes of each pixel, with OpenCV's weights in parts of 32768. */
function grey({ data }) {
    const result = new Uint8ClampedArray(data.length);
    for (let at = 0; at < data.length; at += 4) {
        result[at] = (9798 * data[at] + 19235 * data[at + 1] + 3735 * data[at + 2] + 16384) >> 15;
    }
    return result;
}

/** Shares of 4·4·4 colours, smoothed along each axis so that a slight change of light counts little. */
function histogram({ data }) {
    let shares = new Float64Array(64);
    for (let at = 0; at < data.length; at += 4) {
        shares[16 * (data[at] >> 6) + 4 * (data[at + 1] >> 6) + (data[at + 2] >> 6)] += 4 / data.length;
    }
    for (const step of [16, 4, 1]) {
        shares = shares.map((share, index) => {
            const level = Math.floor(index / step) % 4;
            const below = shares[level > 0 ? index - step : index];
            const above = shares[level < 3 ? index + step : index];
            return (below + 2 * share + above) / 4;
        });
    }
    const total = shares.reduce((sum, share) => sum + share, 0);
    return shares.map((share) => share / total);
}

function meanDifference(first, second, channels) {
    let sum = 0;
    for (let at = 0; at < first.length; at += 4) {
        for (const channel of channels) sum += Math.abs(first[at + channel] - second[at + channel]);
    }
    return sum / ((first.length / 4) * channels.length);
}

function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length / 2;
    return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}
