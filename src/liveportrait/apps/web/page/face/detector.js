/**
 * Face boxes in a picture of any size: BlazeFace on the whole frame and on tiles of a pyramid (face/detector.py).
 *
 * @typedef {import("../types.js").Box} Box
 * @typedef {import("../types.js").Picture} Picture
 *
 * @typedef {object} Detection a face box in pixels of the picture
 * @property {number} score
 * @property {Box} box brows to chin
 * @property {[number, number]} rightEye the subject's
 * @property {[number, number]} leftEye
 *
 * @typedef {object} View a square input of the network
 * @property {Float32Array} pixels (128·128·3) in [-1, 1]
 * @property {number} scale px of the view per px of the picture
 * @property {[number, number]} corner the view's first pixel in the picture
 * @property {number} minScore the lowest score of a detection
 */

import { constants } from "../constants.js";
import { resizeArea, resizeLinear, roundHalfEven } from "./resampling.js";

const NUMBERS = 16; // per box: centre, size and six points

export class Detector {
    /** @param {import("../types.js").Network} network face_detector */
    constructor(network) {
        this.network = network;
        this.anchors = anchors();
    }

    /**
     * Boxes in a picture; the same face may appear several times.
     * @param {number} smallest height in px of the smallest face to look for
     * @returns {Promise<Detection[]>}
     */
    async detect(picture, smallest) {
        const found = [];
        for (const view of views(picture, smallest)) {
            for (const { score, values } of await this.look(view)) {
                const point = (index) => [
                    values[2 * index] / view.scale + view.corner[0],
                    values[2 * index + 1] / view.scale + view.corner[1],
                ];
                const box = [...point(0), ...point(1)];
                found.push({ score, box, rightEye: point(2), leftEye: point(3) });
            }
        }
        return found;
    }

    /** Faces in one view: score and [x0, y0, x1, y1, six points as x, y] in px of the view. */
    async look(view) {
        const { side } = constants.face.detector;
        const [regressors, logits] = await this.network([{ dims: [1, side, side, 3], data: view.pixels }]);
        const found = [];
        for (let index = 0; index < logits.data.length; index++) {
            const score = 1 / (1 + Math.exp(-Math.min(Math.max(logits.data[index], -50), 50)));
            if (score < view.minScore) continue;
            const raw = regressors.data.subarray(NUMBERS * index, NUMBERS * (index + 1));
            const [x, y] = [this.anchors[2 * index] * side, this.anchors[2 * index + 1] * side];
            const [halfWidth, halfHeight] = [raw[2] / 2, raw[3] / 2];
            const values = [raw[0] + x - halfWidth, raw[1] + y - halfHeight];
            values.push(raw[0] + x + halfWidth, raw[1] + y + halfHeight);
            for (let at = 4; at < NUMBERS; at += 2) values.push(raw[at] + x, raw[at + 1] + y);
            found.push({ score, values });
        }
        return weightedSuppression(found);
    }
}

/** Anchor centres (896·2) in [0, 1]: two per cell of the 16×16 grid, six per cell of the 8×8 grid. */
export function anchors() {
    const centres = [];
    for (const [cells, each] of constants.face.detector.grids) {
        for (let cell = 0; cell < cells * cells; cell++) {
            const centre = [((cell % cells) + 0.5) / cells, (Math.floor(cell / cells) + 0.5) / cells];
            for (let count = 0; count < each; count++) centres.push(...centre);
        }
    }
    return Float32Array.from(centres);
}

/** Intersection over union of two boxes, which are the first four numbers of each array. */
export function overlap(first, second) {
    const width = Math.min(first[2], second[2]) - Math.max(first[0], second[0]);
    const height = Math.min(first[3], second[3]) - Math.max(first[1], second[1]);
    const shared = Math.max(width, 0) * Math.max(height, 0);
    return shared / Math.max(area(first) + area(second) - shared, 1e-9);
}

/** Non-maximum suppression that averages what it merges, weighted by score, best first. */
function weightedSuppression(found) {
    let left = [...found].sort((a, b) => b.score - a.score);
    const merged = [];
    while (left.length) {
        const [best] = left;
        const isSame = ({ values }) =>
            values === best.values || overlap(best.values, values) > constants.face.detector.overlap;
        const same = left.filter(isSame);
        const total = same.reduce((sum, { score }) => sum + score, 0);
        const values = best.values.map(
            (_, index) => same.reduce((sum, each) => sum + each.values[index] * each.score, 0) / total,
        );
        merged.push({ score: best.score, values });
        left = left.filter((each) => !isSame(each));
    }
    return merged;
}

/** The network's views of a picture, from coarse to fine and back. @returns {Generator<View>} */
export function* views(picture, smallest) {
    const { side, margin, minScore, minScoreTile, smallestSeen, finest } = constants.face.detector;
    const whole = side / Math.max(picture.width, picture.height);
    for (const scale of [whole, whole * margin]) {
        const small = resized(picture, scale);
        const [left, top] = [Math.floor((small.width - side) / 2), Math.floor((small.height - side) / 2)];
        yield view(small, left, top, scale, minScore);
    }
    for (let scale = Math.min(smallestSeen / smallest, finest); scale > whole * 1.05; scale /= 2) {
        const level = resized(picture, scale);
        for (const top of starts(level.height)) {
            for (const left of starts(level.width)) yield view(level, left, top, scale, minScoreTile);
        }
    }
}

function area(box) {
    return (box[2] - box[0]) * (box[3] - box[1]);
}

/** Start positions of tiles that cover a length, evenly spaced. */
function starts(length) {
    const { side, stride } = constants.face.detector;
    const room = Math.max(0, length - side);
    const gaps = Math.ceil(room / stride);
    if (gaps === 0) return [0];
    return Array.from({ length: gaps + 1 }, (_, index) => roundHalfEven((index * room) / gaps));
}

function resized(picture, scale) {
    const width = Math.max(1, roundHalfEven(picture.width * scale));
    const height = Math.max(1, roundHalfEven(picture.height * scale));
    if (width === picture.width && height === picture.height) return picture;
    return scale < 1 ? resizeArea(picture, width, height) : resizeLinear(picture, width, height);
}

/** The 128×128 px of a resized picture from (left, top) on; black outside it. */
function view(level, left, top, scale, minScore) {
    const { side } = constants.face.detector;
    const pixels = new Float32Array(3 * side * side).fill(-1);
    const [x0, x1] = [Math.max(0, -left), Math.min(side, level.width - left)];
    for (let y = Math.max(0, -top); y < Math.min(side, level.height - top); y++) {
        let at = 4 * ((top + y) * level.width + left + x0);
        for (let out = 3 * (y * side + x0); out < 3 * (y * side + x1); out += 3, at += 4) {
            pixels[out] = level.data[at] / 127.5 - 1;
            pixels[out + 1] = level.data[at + 1] / 127.5 - 1;
            pixels[out + 2] = level.data[at + 2] / 127.5 - 1;
        }
    }
    return { pixels, scale, corner: [left / scale, top / scale], minScore };
}
