/** Reads photos into pixels. */

import { constants } from "../constants.js";
import { UserError } from "../errors.js";
import { resizeArea } from "../face/resampling.js";

/** @typedef {import("../types.js").Picture} Picture */

/** A photo's pixels: upright, with even sides, and reduced if it is too large. @param {Blob} file @returns {Promise<Picture>} */
export async function readPicture(file, name = "The photo") {
    let bitmap;
    try {
        bitmap = await createImageBitmap(file, {
            imageOrientation: "from-image",
            premultiplyAlpha: "none",
            colorSpaceConversion: "default",
        });
    } catch {
        throw new UserError(`${name} is not a photo that this browser can read: choose a JPEG, PNG or WebP picture.`);
    }
    try {
        return limitSize(pixelsOf(bitmap, bitmap.width, bitmap.height, name));
    } finally {
        bitmap.close();
    }
}

/** Throw a `UserError` if a picture is too small for a face. */
export function checkSize(width, height, name) {
    const { smallest } = constants.photo;
    if (Math.min(width, height) < smallest) {
        throw new UserError(`${name} is ${width}x${height} px: use one of at least ${smallest} px a side.`);
    }
}

/** The pixels of something drawable, with transparency over white. @returns {Picture} */
export function pixelsOf(drawable, width, height, name = "The picture") {
    checkSize(width, height, name);
    const canvas = new OffscreenCanvas(width, height);
    const pen = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    if (!pen) {
        throw new UserError(`${name} is ${width}x${height} px, which is too large for this browser.`);
    }
    pen.fillStyle = "white";
    pen.fillRect(0, 0, width, height);
    pen.drawImage(drawable, 0, 0, width, height);
    return { width, height, data: pen.getImageData(0, 0, width, height).data };
}

/** The picture with its longer side reduced to what players support, and even sides (source/photo.py). */
function limitSize(picture, limit = constants.photo.side) {
    const longer = Math.max(picture.width, picture.height);
    const [width, height] = [picture.width, picture.height].map((side) => {
        const shorter = longer > limit ? Math.trunc((side * limit) / longer) : side;
        return side === longer && longer > limit ? limit : shorter;
    });
    const reduced = longer > limit ? resizeArea(picture, Math.max(width, 2), Math.max(height, 2)) : picture;
    return evened(reduced);
}

/** The picture cropped to an even width and height. */
function evened({ width, height, data }) {
    const [wide, high] = [width - (width % 2), height - (height % 2)];
    if (wide === width && high === height) {
        return { width, height, data };
    }
    const kept = new Uint8ClampedArray(4 * wide * high);
    for (let row = 0; row < high; row++) {
        kept.set(data.subarray(4 * row * width, 4 * (row * width + wide)), 4 * row * wide);
    }
    return { width: wide, height: high, data: kept };
}
