/** Outlines of faces, and soft masks of what they enclose in crops of 256 px (face/paste.py). */

import { constants } from "../constants.js";

const LINES = 4; // scan lines per pixel
const OUTSET = 0.67; // px by which OpenCV's antialiased polygons reach beyond their corners

/** The outline (36·3) px of a face. @param {import("../types.js").Face} face @returns {Float32Array} */
export function outlineOf({ landmarks }) {
    return Float32Array.from(constants.face.outline.flatMap((row) => [...landmarks.subarray(3 * row, 3 * row + 3)]));
}

/** An outline (36·3) px of a frame as px (36·2) of the window's crop at 256 px. @param {import("../types.js").CropWindow} window */
export function outlineInCrop(outline, { matrix, size }) {
    const ratio = constants.motion.paste.maskSide / size;
    const result = new Float64Array((2 * outline.length) / 3);
    for (let point = 0; point < result.length / 2; point++) {
        const [x, y] = outline.subarray(3 * point, 3 * point + 2);
        result[2 * point] = (matrix[0] * x + matrix[1] * y + matrix[2] + 0.5) * ratio - 0.5;
        result[2 * point + 1] = (matrix[3] * x + matrix[4] * y + matrix[5] + 0.5) * ratio - 0.5;
    }
    return result;
}

/** Whether a head, given by its outline (36·2) px of 256, may reach into the crop. */
export function reaches(outline) {
    return [0, 1].every((axis) => {
        const places = outline.filter((_, index) => index % 2 === axis);
        const [low, high] = [Math.min(...places), Math.max(...places)];
        return high + (high - low) > 0 && low - (high - low) < constants.motion.paste.maskSide;
    });
}

/** Soft-edged mask (256·256) of the area inside an outline (n·2) px of 256, enlarged about its centre. @returns {Float32Array} */
export function outlineMask(outline, grow, raised = 0) {
    const { maskSide: side, feather, top, chin } = constants.motion.paste;
    const points = Array.from({ length: outline.length / 2 }, (_, index) => [outline[2 * index], outline[2 * index + 1]]);
    const axes = [0, 1].map((axis) => points.map((point) => point[axis]));
    const middle = axes.map((places) => places.reduce((sum, place) => sum + place, 0) / places.length);
    const lift = [0, 1].map((axis) => raised * (points[top][axis] - points[chin][axis]));
    const grown = points.map((point) => {
        const way = [0, 1].map((axis) => point[axis] - middle[axis]);
        const factor = grow + OUTSET / Math.max(Math.hypot(...way), 1);
        return way.map((part, axis) => middle[axis] + lift[axis] + factor * part);
    });
    const width = Math.min(...axes.map((places) => Math.max(...places) - Math.min(...places)));
    return blurred(filled(convexHull(grown), side), side, Math.max(feather * width, 0.5));
}

/** The corners of the smallest convex polygon around points, in order. */
function convexHull(points) {
    const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const half = (ordered) => {
        const chain = [];
        for (const point of ordered) {
            while (chain.length > 1 && turn(chain.at(-2), chain.at(-1), point) <= 0) {
                chain.pop();
            }
            chain.push(point);
        }
        return chain.slice(0, -1);
    };
    return [...half(sorted), ...half(sorted.reverse())];
}

function turn(a, b, c) {
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
}

/** A convex polygon as a picture (side·side): how much of each pixel it covers, times 255. */
function filled(corners, side) {
    const mask = new Float32Array(side * side);
    for (let line = 0; line < LINES * side; line++) {
        const y = (line + 0.5) / LINES - 0.5;
        let [left, right] = [Infinity, -Infinity];
        corners.forEach(([x0, y0], index) => {
            const [x1, y1] = corners[(index + 1) % corners.length];
            if (y0 <= y !== y1 <= y) {
                const x = x0 + ((y - y0) / (y1 - y0)) * (x1 - x0);
                left = Math.min(left, x);
                right = Math.max(right, x);
            }
        });
        const start = Math.floor(line / LINES) * side;
        for (let x = Math.max(0, Math.round(left)); x < side && x - 0.5 < right; x++) {
            mask[start + x] += (255 / LINES) * Math.max(Math.min(right, x + 0.5) - Math.max(left, x - 0.5), 0);
        }
    }
    return mask;
}

/** A picture (side·side) blurred by a Gaussian with OpenCV's kernel size for bytes, mirrored at the border. */
function blurred(picture, side, deviation) {
    const reach = Math.round(6 * deviation + 1) >> 1;
    const weights = Float64Array.from({ length: 2 * reach + 1 }, (_, tap) =>
        Math.exp(-0.5 * ((tap - reach) / deviation) ** 2),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const mirrored = Int32Array.from({ length: side + 2 * reach }, (_, index) => {
        const place = Math.abs(index - reach);
        return place < side ? place : 2 * side - 2 - place;
    });
    const pass = (from) => {
        const to = new Float32Array(side * side); // transposed; the second pass transposes it back
        for (let y = 0; y < side; y++) {
            for (let x = 0; x < side; x++) {
                let sum = 0;
                for (let tap = 0; tap < weights.length; tap++) {
                    sum += weights[tap] * from[y * side + mirrored[x + tap]];
                }
                to[x * side + y] = sum / total;
            }
        }
        return to;
    };
    return pass(pass(picture)).map(Math.round);
}
