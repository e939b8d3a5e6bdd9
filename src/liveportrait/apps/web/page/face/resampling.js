/**
 * OpenCV's `resize` and `warpAffine` for 8-bit pictures, on typed arrays: a canvas samples differently.
 *
 * Pixels equal OpenCV's except for rounding, which differs for fewer than one in a thousand.
 *
 * @typedef {import("../types.js").Picture} Picture
 */

const RGB = 3; // channels to compute; the fourth, alpha, is opaque
const WEIGHT_BITS = 11; // of OpenCV's bilinear weights in `resize`

/** An opaque black picture. @returns {Picture} */
function blackPicture(width, height) {
    const data = new Uint8ClampedArray(4 * width * height);
    new Uint32Array(data.buffer).fill(0xff000000);
    return { width, height, data };
}

/** The pixels from (x0, y0) to before (x1, y1), which must be inside the picture. @returns {Picture} */
export function cutOut(picture, x0, y0, x1, y1) {
    const [width, height] = [x1 - x0, y1 - y0];
    const data = new Uint8ClampedArray(4 * width * height);
    for (let y = 0; y < height; y++) {
        const start = 4 * ((y0 + y) * picture.width + x0);
        data.set(picture.data.subarray(start, start + 4 * width), 4 * width * y);
    }
    return { width, height, data };
}

/** The inverse (2·3) of an affine map (2·3) of column vectors. @returns {Float64Array} */
export function invertAffine(matrix) {
    const [a, b, x, c, d, y] = matrix;
    const determinant = a * d - b * c;
    const scale = determinant === 0 ? 0 : 1 / determinant;
    const [e, f, g, h] = [d * scale, -b * scale, -c * scale, a * scale];
    return Float64Array.of(e, f, -(e * x + f * y), g, h, -(g * x + h * y));
}

/**
 * A picture of `width` by `height` px whose pixel (x, y) is that at toPicture (2·3) · (x, y, 1), bilinear.
 *
 * Outside the picture it is black; with `replicate` the edge is repeated.
 * @returns {Picture}
 */
export function warpAffine(picture, toPicture, width, height, replicate = false) {
    const result = blackPicture(width, height);
    const { data, width: columns, height: rows } = picture;
    const [a, b, shiftX, c, d, shiftY] = toPicture;
    for (let y = 0, out = 0; y < height; y++) {
        for (let x = 0; x < width; x++, out += 4) {
            const sourceX = a * x + b * y + shiftX;
            const sourceY = c * x + d * y + shiftY;
            const x0 = Math.floor(sourceX);
            const y0 = Math.floor(sourceY);
            const inside = x0 >= 0 && y0 >= 0 && x0 + 1 < columns && y0 + 1 < rows;
            if (!inside && !replicate && (x0 < -1 || y0 < -1 || x0 >= columns || y0 >= rows)) continue;
            let right = sourceX - x0;
            let down = sourceY - y0;
            let topLeft = 4 * (y0 * columns + x0);
            let nextColumn = 4;
            let nextRow = 4 * columns;
            let [leftWeight, topWeight] = [1 - right, 1 - down];
            if (!inside) {
                // Outside pixels have weight 0 if they are black; with `replicate` the edge pixel is read instead.
                if (!replicate) {
                    if (x0 < 0) leftWeight = 0;
                    if (x0 + 1 >= columns) right = 0;
                    if (y0 < 0) topWeight = 0;
                    if (y0 + 1 >= rows) down = 0;
                }
                const [x1, y1] = [clamp(x0 + 1, columns), clamp(y0 + 1, rows)];
                const [fromX, fromY] = [clamp(x0, columns), clamp(y0, rows)];
                topLeft = 4 * (fromY * columns + fromX);
                nextColumn = 4 * (x1 - fromX);
                nextRow = 4 * columns * (y1 - fromY);
            }
            for (let channel = 0; channel < RGB; channel++) {
                const at = topLeft + channel;
                const top = leftWeight * data[at] + right * data[at + nextColumn];
                const bottom = leftWeight * data[at + nextRow] + right * data[at + nextRow + nextColumn];
                result.data[out + channel] = topWeight * top + down * bottom;
            }
        }
    }
    return result;
}

/** The picture reduced by area averaging; it must not grow. @returns {Picture} */
export function resizeArea(picture, width, height) {
    const [across, along] = [picture.width / width, picture.height / height];
    if (Number.isInteger(across) && Number.isInteger(along)) return meansOfBlocks(picture, across, along);
    const result = blackPicture(width, height);
    const columns = areaTaps(picture.width, width);
    const rows = areaTaps(picture.height, height);
    const line = new Float32Array(RGB * width);
    const sums = new Float32Array(RGB * width);
    for (let y = 0; y < height; y++) {
        sums.fill(0);
        for (let row = rows.first[y]; row < rows.first[y + 1]; row++) {
            reducedLine(picture, rows.source[row], columns, line);
            const weight = rows.weight[row];
            for (let index = 0; index < line.length; index++) sums[index] += weight * line[index];
        }
        for (let x = 0, out = 4 * width * y; x < width; x++, out += 4) {
            for (let channel = 0; channel < RGB; channel++) result.data[out + channel] = sums[RGB * x + channel];
        }
    }
    return result;
}

/** The picture resized bilinearly, with OpenCV's fixed-point weights. @returns {Picture} */
export function resizeLinear(picture, width, height) {
    if (picture.width === 2 * width && picture.height === 2 * height) return meansOfBlocks(picture, 2, 2);
    const result = blackPicture(width, height);
    const { data } = picture;
    const columns = linearTaps(picture.width, width);
    const rows = linearTaps(picture.height, height);
    for (let y = 0, out = 0; y < height; y++) {
        const top = 4 * picture.width * rows.low[y];
        const bottom = 4 * picture.width * rows.high[y];
        const [topWeight, bottomWeight] = [rows.lowWeight[y], rows.highWeight[y]];
        for (let x = 0; x < width; x++, out += 4) {
            const [left, right] = [4 * columns.low[x], 4 * columns.high[x]];
            const [leftWeight, rightWeight] = [columns.lowWeight[x], columns.highWeight[x]];
            for (let channel = 0; channel < RGB; channel++) {
                const upper =
                    data[top + left + channel] * leftWeight + data[top + right + channel] * rightWeight;
                const lower =
                    data[bottom + left + channel] * leftWeight + data[bottom + right + channel] * rightWeight;
                const sum = ((topWeight * (upper >> 4)) >> 16) + ((bottomWeight * (lower >> 4)) >> 16);
                result.data[out + channel] = (sum + 2) >> 2;
            }
        }
    }
    return result;
}

function clamp(index, count) {
    return Math.min(Math.max(index, 0), count - 1);
}

/** Means of blocks of whole pixels. Halves are rounded up in blocks of 2 by 2, otherwise to even. */
function meansOfBlocks(picture, across, along) {
    const [width, height] = [picture.width / across, picture.height / along];
    const result = blackPicture(width, height);
    const count = across * along;
    const halvesRoundUp = across === 2 && along === 2;
    for (let y = 0, out = 0; y < height; y++) {
        for (let x = 0; x < width; x++, out += 4) {
            const first = 4 * (y * along * picture.width + x * across);
            for (let channel = 0; channel < RGB; channel++) {
                let sum = 0;
                for (let row = 0; row < along; row++) {
                    let at = first + 4 * row * picture.width + channel;
                    for (let column = 0; column < across; column++, at += 4) sum += picture.data[at];
                }
                // A Uint8ClampedArray rounds halves to even.
                result.data[out + channel] = halvesRoundUp ? (sum + 2) >> 2 : sum / count;
            }
        }
    }
    return result;
}

/** Taps that reduce `length` pixels to `count`: pixel i has taps first[i] to first[i + 1] of sources and weights. */
function areaTaps(length, count) {
    const ratio = length / count;
    const first = new Int32Array(count + 1);
    const source = [];
    const weight = [];
    for (let index = 0; index < count; index++) {
        const [start, end] = [index * ratio, Math.min((index + 1) * ratio, length)];
        for (let pixel = Math.floor(start); pixel < Math.min(Math.ceil(end), length); pixel++) {
            const share = Math.min(end, pixel + 1) - Math.max(start, pixel);
            if (share <= 1e-3) continue; // as OpenCV does
            source.push(pixel);
            weight.push(share / (end - start));
        }
        first[index + 1] = source.length;
    }
    return { first, source: Int32Array.from(source), weight: Float32Array.from(weight) };
}

/** Reduce one row of the picture to the columns (width·3) of `line`. */
function reducedLine(picture, row, columns, line) {
    const start = 4 * row * picture.width;
    for (let x = 0; x < columns.first.length - 1; x++) {
        let [red, green, blue] = [0, 0, 0];
        for (let tap = columns.first[x]; tap < columns.first[x + 1]; tap++) {
            const at = start + 4 * columns.source[tap];
            const weight = columns.weight[tap];
            red += weight * picture.data[at];
            green += weight * picture.data[at + 1];
            blue += weight * picture.data[at + 2];
        }
        line[RGB * x] = red;
        line[RGB * x + 1] = green;
        line[RGB * x + 2] = blue;
    }
}

/** For each of `count` pixels the two source pixels among `length`, and their weights in parts of 2048. */
function linearTaps(length, count) {
    const ratio = length / count;
    const low = new Int32Array(count);
    const high = new Int32Array(count);
    const lowWeight = new Int32Array(count);
    const highWeight = new Int32Array(count);
    const one = 1 << WEIGHT_BITS;
    for (let index = 0; index < count; index++) {
        const place = Math.fround((index + 0.5) * ratio - 0.5);
        const whole = Math.floor(place);
        const part = whole < 0 || whole >= length - 1 ? 0 : Math.fround(place - whole);
        low[index] = clamp(whole, length);
        high[index] = clamp(low[index] + 1, length);
        lowWeight[index] = roundHalfEven(Math.fround(1 - part) * one);
        highWeight[index] = roundHalfEven(part * one);
    }
    return { low, high, lowWeight, highWeight };
}

/** Rounded with halves to even, as in Python. */
export function roundHalfEven(value) {
    const low = Math.floor(value);
    const part = value - low;
    if (part !== 0.5) return Math.round(value);
    return low % 2 === 0 ? low : low + 1;
}
