/** The watermark (marking/payload.py, code.py, tile.py, watermark.py): `liveportrait verify` finds it in the pixels. */

import { constants } from "../constants.js";

const LUMA = [4899, 9617, 1868]; // of OpenCV's grey, in parts of 2^14
const LUMA_BITS = 14;

/** @typedef {import("../types.js").Picture} Picture @typedef {import("../face/composition.js").Box} Box */
/** @typedef {{work: string, source: number, weights: number}} Payload as in Python */

/** The bits of a payload: version, work, source, weights, checksum, each from its highest bit. @param {Payload} payload */
function payloadBits({ work, source = 0, weights = 0 }) {
    const { version, works } = constants.motion.watermark;
    const said = [(version << 4) | works.indexOf(work), source >> 8, source & 0xff, weights];
    const sum = checksum(said);
    return [...said, sum >> 8, sum & 0xff].flatMap((octet) => bitsOf(octet, 8));
}

function bitsOf(number, count) {
    return Array.from({ length: count }, (_, place) => (number >> (count - 1 - place)) & 1);
}

function checksum(octets) {
    const { polynomial, start } = constants.motion.watermark;
    let value = start;
    for (const octet of octets) {
        value ^= octet << 8;
        for (let bit = 0; bit < 8; bit++) {
            value = (value & 0x8000 ? (value << 1) ^ polynomial : value << 1) & 0xffff;
        }
    }
    return value;
}

/** The bits of a message in a convolutional code, terminated by zeros. */
export function encoded(bits) {
    const { memory, generators } = constants.motion.watermark;
    let state = 0;
    return [...bits, ...Array(memory).fill(0)].flatMap((bit) => {
        const register = (state << 1) | bit;
        state = register & ((1 << memory) - 1);
        return generators.map((generator) => bitsOf(register & generator, memory + 1).reduce((a, b) => a ^ b));
    });
}

/** The tile (side·side) of a payload: mean 0, standard deviation 1. @param {Payload} payload @returns {Float32Array} */
export function square(payload) {
    const { side, pilot, places } = constants.motion.watermark;
    const signs = encoded(payloadBits(payload)).map((bit) => 2 * bit - 1);
    const carried = places.map(([row, column], wave) => [row, column, signs[2 * wave], signs[2 * wave + 1]]);
    const cosines = Float64Array.from({ length: side }, (_, step) => Math.cos((2 * Math.PI * step) / side));
    const result = new Float64Array(side * side);
    for (const [row, column, real, imaginary] of [...pilot, ...carried]) {
        const along = column & (side - 1); // steps a pixel; the side is a power of 2
        for (let y = 0, index = 0; y < side; y++) {
            let step = (row * y) & (side - 1);
            for (let x = 0; x < side; x++, index++) {
                const sine = cosines[(step + (3 * side) / 4) & (side - 1)];
                result[index] += real * cosines[step] - imaginary * sine;
                step = (step + along) & (side - 1);
            }
        }
    }
    const spread = Math.sqrt(result.reduce((total, value) => total + value * value, 0) / result.length);
    return Float32Array.from(result, (value) => value / spread);
}

/** The pattern of one payload, embedded in the generated part of pictures and anchored at their upper left corner. */
export class Watermark {
    /** @param {Payload} payload */
    constructor(payload) {
        this.square = square(payload);
        /** @type {Box} */
        this.box = { left: 0, top: 0, width: 0, height: 0 };
    }

    /**
     * Mark a box of a picture in place; `region` (h·w): how much of each pixel was generated, 255 for all of it.
     * @param {Picture} picture @param {Box} box @param {Uint8Array} region
     */
    embed(picture, box, region) {
        if (!box.width || !box.height) {
            return;
        }
        if (Object.keys(box).some((name) => box[name] !== this.box[name])) {
            this.prepare(box);
        }
        this.lighten(picture);
        this.measure();
        this.add(picture, region);
    }

    /** Precompute what depends on the box alone, and allocate buffers. */
    prepare(box) {
        const { left, width, height } = box;
        const { side } = constants.motion.watermark;
        this.box = { ...box };
        this.halfWidth = Math.max(1, width >> 1);
        this.halfHeight = Math.max(1, height >> 1);
        this.columns = areaTaps(width, this.halfWidth);
        this.rows = areaTaps(height, this.halfHeight);
        this.across = linearTaps(this.halfWidth, width);
        this.down = linearTaps(this.halfHeight, height);
        const count = this.halfWidth * this.halfHeight;
        this.half = new Uint8Array(count);
        this.strength = new Float32Array(count);
        this.sums = new Int32Array(this.halfWidth); // over the rows of a neighbourhood
        this.squares = new Int32Array(this.halfWidth);
        this.grey = new Float32Array(width);
        this.line = new Float32Array(this.halfWidth);
        /** The rows of the pattern (side·width), aligned with the box. */
        this.sheet = Float32Array.from({ length: side * width }, (_, index) => {
            const row = Math.floor(index / width);
            return this.square[row * side + ((left + (index % width)) % side)];
        });
    }

    /** The brightness of the box at half its size, in integer grey levels. */
    lighten({ data, width }) {
        const { box, halfWidth, halfHeight, columns, rows, grey, half, line } = this;
        const [red, green, blue] = LUMA;
        const rounding = 1 << (LUMA_BITS - 1);
        for (let y = 0, out = 0; y < halfHeight; y++, out += halfWidth) {
            line.fill(0);
            for (let tap = rows.first[y]; tap < rows.first[y + 1]; tap++) {
                let at = 4 * ((box.top + rows.source[tap]) * width + box.left);
                for (let x = 0; x < box.width; x++, at += 4) {
                    grey[x] =
                        (red * data[at] + green * data[at + 1] + blue * data[at + 2] + rounding) >> LUMA_BITS;
                }
                const weight = rows.weight[tap];
                for (let x = 0; x < halfWidth; x++) {
                    let sum = 0;
                    for (let part = columns.first[x]; part < columns.first[x + 1]; part++) {
                        sum += columns.weight[part] * grey[columns.source[part]];
                    }
                    line[x] += weight * sum;
                }
            }
            for (let x = 0; x < halfWidth; x++) {
                half[out + x] = line[x] + 0.5;
            }
        }
    }

    /** The strength of the pattern, at half the size: busy areas hide more of it. */
    measure() {
        const { strength, halfWidth, halfHeight, sums, squares } = this;
        const { faintest, strongest, busy, around, largest } = constants.motion.watermark;
        const reach = around >> 1;
        const count = around * around;
        let total = 0;
        sums.fill(0);
        squares.fill(0);
        for (let row = -reach; row < reach; row++) {
            this.sumUp(row, 1);
        }
        for (let y = 0, out = 0; y < halfHeight; y++) {
            this.sumUp(y + reach, 1);
            for (let x = 0; x < halfWidth; x++, out++) {
                let sum = 0;
                let square = 0;
                for (let column = x - reach; column <= x + reach; column++) {
                    const at = column < 0 || column >= halfWidth ? mirrored(column, halfWidth) : column;
                    sum += sums[at];
                    square += squares[at];
                }
                const spread = Math.sqrt(Math.max(square / count - (sum / count) ** 2, 0));
                const value = Math.min(faintest + busy * spread, strongest);
                strength[out] = value;
                total += value * value;
            }
            this.sumUp(y - reach, -1);
        }
        this.factor = Math.min(1, largest / Math.sqrt(total / strength.length));
    }

    /** Add a row of the half-size picture to the column sums, or subtract it. */
    sumUp(row, sign) {
        const { half, sums, squares, halfWidth } = this;
        const start = mirrored(row, this.halfHeight) * halfWidth;
        for (let x = 0; x < halfWidth; x++) {
            const value = half[start + x];
            sums[x] += sign * value;
            squares[x] += sign * value * value;
        }
    }

    /** Add the pattern, scaled by its strength and the region, to red, green and blue alike. */
    add({ data, width }, region) {
        const { box, strength, halfWidth, across, down, sheet, line } = this;
        const { side } = constants.motion.watermark;
        const unit = this.factor / 255;
        for (let y = 0, index = 0; y < box.height; y++) {
            const above = down.low[y] * halfWidth;
            const below = down.high[y] * halfWidth;
            for (let x = 0; x < halfWidth; x++) {
                const upper = strength[above + x];
                line[x] = unit * (upper + down.share[y] * (strength[below + x] - upper));
            }
            let lies = ((box.top + y) % side) * box.width;
            let at = 4 * ((box.top + y) * width + box.left);
            for (let x = 0; x < box.width; x++, index++, lies++, at += 4) {
                if (region[index] === 0) continue;
                const left = line[across.low[x]];
                const amount = left + across.share[x] * (line[across.high[x]] - left);
                const added = Math.round(amount * region[index] * sheet[lies]);
                // The array clamps to 0..255.
                data[at] += added;
                data[at + 1] += added;
                data[at + 2] += added;
            }
        }
    }
}

/** An index outside 0..count − 1, mirrored at the ends. */
function mirrored(index, count) {
    if (count === 1) {
        return 0;
    }
    const period = 2 * count - 2;
    const within = ((index % period) + period) % period;
    return within < count ? within : period - within;
}

/** Taps that average `length` values to `count`: output i has taps first[i] to first[i + 1] of sources and weights. */
function areaTaps(length, count) {
    const ratio = length / count;
    const [first, source, weight] = [[0], [], []];
    for (let index = 0; index < count; index++) {
        const [start, end] = [index * ratio, Math.min((index + 1) * ratio, length)];
        for (let pixel = Math.floor(start); pixel < Math.min(Math.ceil(end), length); pixel++) {
            const share = Math.min(end, pixel + 1) - Math.max(start, pixel);
            if (share > 1e-3) {
                source.push(pixel);
                weight.push(share / (end - start));
            }
        }
        first.push(source.length);
    }
    return { first: Int32Array.from(first), source: Int32Array.from(source), weight: Float32Array.from(weight) };
}

/** For each of `length` outputs its two neighbours among `count` inputs, and the share of the second. */
function linearTaps(count, length) {
    const places = Float64Array.from({ length }, (_, index) => ((index + 0.5) * count) / length - 0.5);
    const low = Int32Array.from(places, (place) => Math.max(Math.floor(place), 0));
    const high = Int32Array.from(low, (index) => Math.min(index + 1, count - 1));
    const share = Float32Array.from(places, (place, index) => Math.max(place - low[index], 0));
    return { low, high, share };
}
