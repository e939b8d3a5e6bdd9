/**
 * A rendered face at any resolution: the source's own pixels looked up along the flow, plus the paint
 * (face/composition.py). Pixels that neither move nor are painted stay as they are.
 */

import { constants } from "../constants.js";

/** @typedef {import("../types.js").Picture} Picture @typedef {import("../types.js").Tensor} Tensor */
/** @typedef {{left: number, top: number, width: number, height: number}} Box px of a picture */

const NUMBERS = 6; // per cell: shift x and y, how much of the source is kept, and the paint's red, green and blue
const A = -0.75; // parameter of OpenCV's bicubic kernel
const [MOVED, PAINTED] = [1, 2];

/** The layers of one face in one frame, with negligible changes removed. The object is reused for all frames. */
export class FaceLayers {
    /** @param {number} side cells */
    constructor(side) {
        this.side = side;
        this.cells = new Float32Array(side * side * NUMBERS);
        this.changes = new Uint8Array(side * side); // per cell: MOVED, PAINTED, or 0 where the source is unchanged
        this.active = new Uint8Array(side * side); // the same for a cell and its right and lower neighbours
        this.line = newLine(0);
    }

    /**
     * Set the layers of a frame. `linear` (2·2) maps half sides of the crop to px of the target.
     * @param {Tensor[]} layers flow (1,S,S,2), keep (1,1,S,S), paint (1,3,S,S)
     */
    settle([flow, keep, paint], linear) {
        const { side, cells, changes } = this;
        const { still: [stillLow, stillHigh], kept: [keptLow, keptHigh] } = constants.motion.composition;
        const [a, b, , c, d] = linear;
        const count = side * side;
        const reach = side / 2; // cells per half side of the crop
        const unit = constants.motion.composition.halfSide;
        for (let y = 0, cell = 0; y < side; y++) {
            for (let x = 0; x < side; x++, cell++) {
                let shiftX = flow.data[2 * cell] - ((x + 0.5) / reach - 1);
                let shiftY = flow.data[2 * cell + 1] - ((y + 0.5) / reach - 1);
                const moves = rising(unit * Math.sqrt(shiftX * shiftX + shiftY * shiftY), stillLow, stillHigh);
                shiftX *= moves;
                shiftY *= moves;
                const rest = 1 - keep.data[cell];
                const follows = rising(rest, keptLow, keptHigh);
                const at = NUMBERS * cell;
                cells[at] = a * shiftX + b * shiftY;
                cells[at + 1] = c * shiftX + d * shiftY;
                cells[at + 2] = 1 - rest * follows;
                cells[at + 3] = 255 * follows * paint.data[cell];
                cells[at + 4] = 255 * follows * paint.data[count + cell];
                cells[at + 5] = 255 * follows * paint.data[2 * count + cell];
                changes[cell] = (moves > 0 ? MOVED : 0) | (rest * follows > 0 ? PAINTED : 0);
            }
        }
        this.spread();
    }

    /** Mark the lookups between four cells of which any changes. */
    spread() {
        const { side, changes, active } = this;
        for (let y = 0; y < side - 1; y++) {
            for (let cell = y * side; cell < y * side + side - 1; cell++) {
                active[cell] =
                    changes[cell] | changes[cell + 1] | changes[cell + side] | changes[cell + side + 1];
            }
        }
    }
}

/**
 * Compose a face into a box of the target, which holds the source's pixels there, through a mask of the box.
 *
 * @param {Picture} target @param {Picture} source of one size; not the same
 * @param {FaceLayers} layers @param {Box} box
 * @param {Float64Array} toCell (2·3) from px of the box to coordinates in cells
 * @param {Uint8Array} mask (h·w) of the box: 255 takes the face, 0 leaves the target
 */
export function composeInto(target, source, layers, box, toCell, mask) {
    if (layers.line.columns.length < box.width) {
        layers.line = newLine(box.width);
    }
    const colours = new Uint32Array(source.data.buffer, source.data.byteOffset, source.width * source.height);
    for (let y = 0; y < box.height; y++) {
        const count = mixLine(layers, box, toCell, mask, y);
        if (count) {
            layLine(target, source, colours, layers.line, box, mask, y, count);
        }
    }
}

/** Buffers for the changing pixels of a row. */
function newLine(width) {
    return {
        columns: new Int32Array(width), // of the box
        x: new Float64Array(width), // where the pixel comes from, px of the source
        y: new Float64Array(width),
        keep: new Float64Array(width),
        paint: new Float64Array(3 * width),
    };
}

/** Look up the layers along a row of the box; returns how many of its pixels change. */
function mixLine({ side, cells, active, line }, box, toCell, mask, y) {
    const { columns, x: fromX, y: fromY, keep, paint } = line;
    const across = toCell[0];
    const down = toCell[3];
    const startX = toCell[1] * y + toCell[2];
    const startY = toCell[4] * y + toCell[5];
    const below = NUMBERS * side; // from a cell to the one below
    const last = side - 1;
    const start = y * box.width;
    let count = 0;
    for (let x = 0; x < box.width; x++) {
        if (mask[start + x] === 0) continue;
        let u = across * x + startX;
        let v = down * x + startY;
        u = u < 0 ? 0 : u > last ? last : u;
        v = v < 0 ? 0 : v > last ? last : v;
        const column = u >= last ? last - 1 : u | 0;
        const row = v >= last ? last - 1 : v | 0;
        const cell = row * side + column;
        if (active[cell] === 0) continue;
        u -= column;
        v -= row;
        const w11 = u * v; // of the cell right below
        const w01 = u - w11;
        const w10 = v - w11;
        const w00 = 1 - u - w10;
        const i = NUMBERS * cell;
        const j = i + below;
        columns[count] = x;
        fromX[count] =
            box.left + x + w00 * cells[i] + w01 * cells[i + 6] + w10 * cells[j] + w11 * cells[j + 6];
        fromY[count] =
            box.top + y + w00 * cells[i + 1] + w01 * cells[i + 7] + w10 * cells[j + 1] + w11 * cells[j + 7];
        const at = 3 * count;
        if (active[cell] & PAINTED) {
            keep[count] = w00 * cells[i + 2] + w01 * cells[i + 8] + w10 * cells[j + 2] + w11 * cells[j + 8];
            paint[at] = w00 * cells[i + 3] + w01 * cells[i + 9] + w10 * cells[j + 3] + w11 * cells[j + 9];
            paint[at + 1] = w00 * cells[i + 4] + w01 * cells[i + 10] + w10 * cells[j + 4] + w11 * cells[j + 10];
            paint[at + 2] = w00 * cells[i + 5] + w01 * cells[i + 11] + w10 * cells[j + 5] + w11 * cells[j + 11];
        } else {
            keep[count] = 1;
            paint[at] = paint[at + 1] = paint[at + 2] = 0;
        }
        count++;
    }
    return count;
}

/** Look up the source's pixels for a row (bicubic), mix them with the paint and write them. */
function layLine(target, source, colours, line, box, mask, y, count) {
    const { columns, x: fromX, y: fromY, keep, paint } = line;
    const { same } = constants.motion.paste;
    const { width, height } = source;
    const out = target.data;
    const start = y * box.width;
    const first = 4 * ((box.top + y) * width + box.left);
    for (let index = 0; index < count; index++) {
        const left = Math.floor(fromX[index]);
        const top = Math.floor(fromY[index]);
        const s = fromX[index] - left;
        const t = fromY[index] - top;
        const x0 = s * (s * (A * s - 2 * A) + A);
        const x1 = s * s * ((A + 2) * s - (A + 3)) + 1;
        const x3 = s * s * (A - A * s);
        const x2 = 1 - x0 - x1 - x3;
        const y0 = t * (t * (A * t - 2 * A) + A);
        const y1 = t * t * ((A + 2) * t - (A + 3)) + 1;
        const y3 = t * t * (A - A * t);
        const y2 = 1 - y0 - y1 - y3;
        let red = 0;
        let green = 0;
        let blue = 0;
        if (left >= 1 && top >= 1 && left + 2 < width && top + 2 < height) {
            let at = (top - 1) * width + left - 1;
            let a = colours[at];
            let b = colours[at + 1];
            let c = colours[at + 2];
            let d = colours[at + 3];
            red += y0 * (x0 * (a & 255) + x1 * (b & 255) + x2 * (c & 255) + x3 * (d & 255));
            green += y0 * (x0 * ((a >> 8) & 255) + x1 * ((b >> 8) & 255) + x2 * ((c >> 8) & 255) + x3 * ((d >> 8) & 255));
            blue += y0 * (x0 * ((a >> 16) & 255) + x1 * ((b >> 16) & 255) + x2 * ((c >> 16) & 255) + x3 * ((d >> 16) & 255));
            at += width;
            a = colours[at];
            b = colours[at + 1];
            c = colours[at + 2];
            d = colours[at + 3];
            red += y1 * (x0 * (a & 255) + x1 * (b & 255) + x2 * (c & 255) + x3 * (d & 255));
            green += y1 * (x0 * ((a >> 8) & 255) + x1 * ((b >> 8) & 255) + x2 * ((c >> 8) & 255) + x3 * ((d >> 8) & 255));
            blue += y1 * (x0 * ((a >> 16) & 255) + x1 * ((b >> 16) & 255) + x2 * ((c >> 16) & 255) + x3 * ((d >> 16) & 255));
            at += width;
            a = colours[at];
            b = colours[at + 1];
            c = colours[at + 2];
            d = colours[at + 3];
            red += y2 * (x0 * (a & 255) + x1 * (b & 255) + x2 * (c & 255) + x3 * (d & 255));
            green += y2 * (x0 * ((a >> 8) & 255) + x1 * ((b >> 8) & 255) + x2 * ((c >> 8) & 255) + x3 * ((d >> 8) & 255));
            blue += y2 * (x0 * ((a >> 16) & 255) + x1 * ((b >> 16) & 255) + x2 * ((c >> 16) & 255) + x3 * ((d >> 16) & 255));
            at += width;
            a = colours[at];
            b = colours[at + 1];
            c = colours[at + 2];
            d = colours[at + 3];
            red += y3 * (x0 * (a & 255) + x1 * (b & 255) + x2 * (c & 255) + x3 * (d & 255));
            green += y3 * (x0 * ((a >> 8) & 255) + x1 * ((b >> 8) & 255) + x2 * ((c >> 8) & 255) + x3 * ((d >> 8) & 255));
            blue += y3 * (x0 * ((a >> 16) & 255) + x1 * ((b >> 16) & 255) + x2 * ((c >> 16) & 255) + x3 * ((d >> 16) & 255));
        } else {
            for (let tap = 0; tap < 16; tap++) {
                const column = within(left + (tap & 3) - 1, width);
                const colour = colours[within(top + (tap >> 2) - 1, height) * width + column];
                const across = (tap & 3) === 0 ? x0 : (tap & 3) === 1 ? x1 : (tap & 3) === 2 ? x2 : x3;
                const weight = across * (tap >> 2 === 0 ? y0 : tap >> 2 === 1 ? y1 : tap >> 2 === 2 ? y2 : y3);
                red += weight * (colour & 255);
                green += weight * ((colour >> 8) & 255);
                blue += weight * ((colour >> 16) & 255);
            }
        }
        const kept = keep[index];
        red = kept * byte(red) + paint[3 * index];
        green = kept * byte(green) + paint[3 * index + 1];
        blue = kept * byte(blue) + paint[3 * index + 2];
        const cover = mask[start + columns[index]];
        const to = first + 4 * columns[index];
        if (cover < 255) {
            const share = cover / 255;
            red = Math.floor(share * byte(red) + (1 - share) * out[to] + same);
            green = Math.floor(share * byte(green) + (1 - share) * out[to + 1] + same);
            blue = Math.floor(share * byte(blue) + (1 - share) * out[to + 2] + same);
        }
        // The array rounds, and clamps to 0..255.
        out[to] = red;
        out[to + 1] = green;
        out[to + 2] = blue;
    }
}

/** An index clamped to 0..count − 1. */
function within(index, count) {
    return index < 0 ? 0 : index >= count ? count - 1 : index;
}

/** Rounded and clamped to 0..255. */
function byte(value) {
    return value <= 0 ? 0 : value >= 255 ? 255 : (value + 0.5) | 0;
}

/** From 0 at `low` to 1 at `high`, smoothly. */
function rising(value, low, high) {
    const t = value <= low ? 0 : value >= high ? 1 : (value - low) / (high - low);
    return t * t * (3 - 2 * t);
}
