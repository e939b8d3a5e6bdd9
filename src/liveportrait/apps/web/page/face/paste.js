/** Where a crop lies in its frame, and the soft mask through which it is pasted back (face/paste.py). */

import { constants } from "../constants.js";
import { outlineMask } from "./outlines.js";
import { invertAffine } from "./resampling.js";

/** @typedef {import("./composition.js").Box} Box */
/** @typedef {import("../types.js").CropWindow} CropWindow */

/** Mask (size·size) of a crop: full inside, falling to 0 at its border; edge width size/32 px. @returns {Uint8Array} */
function pasteMask(size) {
    const edge = size / constants.motion.paste.edge;
    const outside = Float64Array.from({ length: size }, (_, at) => Math.max(edge - at, at - (size - edge), 0));
    const mask = new Uint8Array(size * size);
    for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
            const distance = Math.hypot(outside[x], outside[y]);
            mask[y * size + x] = Math.floor(255 * Math.min(Math.max(1 - distance / edge, 0), 1));
        }
    }
    return mask;
}

/** The soft-edged mask of a crop of 512 px, at half that size. */
export function coarseMask() {
    const side = constants.motion.paste.maskSide;
    const fine = pasteMask(2 * side);
    return Uint8Array.from({ length: side * side }, (_, index) => {
        const at = 4 * side * Math.floor(index / side) + 2 * (index % side);
        return (fine[at] + fine[at + 1] + fine[at + 2 * side] + fine[at + 2 * side + 1] + 2) >> 2;
    });
}

/** A mask (256·256) without other people's heads, except where this head is in front of them; outlines are in px of 256. */
export function yielding(mask, own, others) {
    const { head, raised } = constants.motion.paste;
    const kept = Float32Array.from(mask);
    const mine = outlineMask(own, head, raised);
    for (const other of others) {
        const theirs = outlineMask(other, head, raised);
        kept.forEach((value, index) => {
            kept[index] = value * (1 - (theirs[index] / 255) * (1 - mine[index] / 255));
        });
    }
    return Uint8Array.from(kept, Math.round);
}

/** The place of a window in frames of a given size, and its mask. */
export class Place {
    /** @param {CropWindow} window; the mask is the soft-edged one until `cover` sets another */
    constructor(window, width, height) {
        const inverse = Float32Array.from(invertAffine(window.matrix));
        const ends = [-1, window.size];
        const corners = ends.flatMap((x) => ends.map((y) => applied(inverse, x, y)));
        const low = [0, 1].map((axis) => Math.floor(Math.min(...corners.map((corner) => corner[axis]))));
        const high = [0, 1].map((axis) => Math.ceil(Math.max(...corners.map((corner) => corner[axis]))) + 1);
        const [left, right] = [low[0], high[0]].map((x) => Math.min(Math.max(x, 0), width));
        const [top, bottom] = [low[1], high[1]].map((y) => Math.min(Math.max(y, 0), height));
        /** @type {Box} */
        this.box = { left, top, width: right - left, height: bottom - top };
        /** From px of the crop to px of the box. */
        this.toBox = Float64Array.from(inverse);
        this.toBox[2] -= left;
        this.toBox[5] -= top;
        this.size = window.size;
        this.cover(pasteMask(window.size), window.size);
    }

    /** Set a mask (size·size) that covers the crop. @param {Uint8Array} mask */
    cover(mask, size) {
        /** (h·w) of the box */
        this.mask = warpedMask(mask, size, invertAffine(this.scaled(size)), this.box);
    }

    /** From px of a picture of the crop with `size` px to px of the box. */
    scaled(size) {
        const ratio = this.size / size;
        const [a, b, x, c, d, y] = this.toBox;
        const half = (ratio - 1) / 2;
        return Float64Array.of(a * ratio, b * ratio, x + (a + b) * half, c * ratio, d * ratio, y + (c + d) * half);
    }
}

function applied(matrix, x, y) {
    return [matrix[0] * x + matrix[1] * y + matrix[2], matrix[3] * x + matrix[4] * y + matrix[5]];
}

/** A mask (size·size) seen through a box, bilinear; 0 outside. */
function warpedMask(mask, size, [a, b, shiftX, c, d, shiftY], box) {
    const result = new Uint8ClampedArray(box.width * box.height);
    const at = (x, y) => (x < 0 || y < 0 || x >= size || y >= size ? 0 : mask[y * size + x]);
    for (let y = 0, index = 0; y < box.height; y++) {
        for (let x = 0; x < box.width; x++, index++) {
            const fromX = a * x + b * y + shiftX;
            const fromY = c * x + d * y + shiftY;
            const left = Math.floor(fromX);
            const top = Math.floor(fromY);
            const [s, t] = [fromX - left, fromY - top];
            const upper = (1 - s) * at(left, top) + s * at(left + 1, top);
            const lower = (1 - s) * at(left, top + 1) + s * at(left + 1, top + 1);
            result[index] = (1 - t) * upper + t * lower;
        }
    }
    return new Uint8Array(result.buffer);
}
