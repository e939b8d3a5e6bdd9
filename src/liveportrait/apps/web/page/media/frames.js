/**
 * Reads frames of videos and cameras into pixels. They are copied, not drawn: Chromium holds on to frames that were drawn
 * on a canvas for a while, up to half a gigabyte.
 */

import { checkSize, pixelsOf } from "./pictures.js";

/** @typedef {import("../types.js").Picture} Picture */

/**
 * The pixels of a frame, upright.
 *
 * @param {VideoFrame} frame @param {string} name for messages @param {number} rotation by which it must be turned,
 * degrees clockwise, a multiple of 90 @returns {Promise<Picture>}
 */
export async function pixelsOfFrame(frame, name, rotation = 0) {
    const { displayWidth, displayHeight } = frame;
    checkSize(displayWidth, displayHeight, name);
    return turned((await copied(frame)) ?? pixelsOf(frame, displayWidth, displayHeight, name), rotation);
}

/** A picture mirrored, in place. @param {Picture} picture @returns {Picture} */
export function mirrored({ width, height, data }) {
    const pixels = new Uint32Array(data.buffer);
    for (let start = 0; start < pixels.length; start += width) {
        pixels.subarray(start, start + width).reverse();
    }
    return { width, height, data };
}

/** A frame's pixels; null if this browser cannot copy such frames, or pixels are not square. @returns {Promise<?Picture>} */
async function copied(frame) {
    const { displayWidth: width, displayHeight: height, visibleRect } = frame;
    const format = { format: "RGBA" };
    // A browser that ignores the requested format would copy another one, of a different size.
    const size = 4 * width * height;
    if (visibleRect?.width !== width || visibleRect.height !== height) {
        return null;
    }
    try {
        if (frame.allocationSize(format) !== size) {
            return null;
        }
        const data = new Uint8ClampedArray(size);
        await frame.copyTo(data, format);
        return { width, height, data };
    } catch {
        return null;
    }
}

function turned(picture, rotation) {
    const { width, height, data } = picture;
    if (!rotation) {
        return picture;
    }
    const pixels = new Uint32Array(data.buffer);
    const result = new Uint32Array(pixels.length);
    // Where the pixel at (0, 0) goes, and the steps from there to the next in its row and in its column.
    const [start, along, down] = {
        90: [height - 1, height, -1],
        180: [pixels.length - 1, -1, -width],
        270: [pixels.length - height, -height, 1],
    }[rotation];
    for (let y = 0, index = 0; y < height; y++) {
        for (let x = 0, to = start + y * down; x < width; x++, to += along) {
            result[to] = pixels[index++];
        }
    }
    const upright = rotation === 180 ? { width, height } : { width: height, height: width };
    return { ...upright, data: new Uint8ClampedArray(result.buffer) };
}
