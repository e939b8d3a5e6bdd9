/** Photos into pixels. */

import { UserError } from "../errors.js";

const SMALLEST = 32; // px of a side, below which there is nothing to see

/** A photo's pixels, upright. @param {Blob} file @returns {Promise<import("../types.js").Picture>} */
export async function readPicture(file, name = "The photo") {
    let bitmap;
    try {
        bitmap = await createImageBitmap(file, {
            imageOrientation: "from-image",
            premultiplyAlpha: "none",
            colorSpaceConversion: "default",
        });
    } catch {
        throw new UserError(`${name} is no photo that this browser reads: choose a JPEG, PNG or WebP picture.`);
    }
    try {
        return pixelsOf(bitmap, bitmap.width, bitmap.height, name);
    } finally {
        bitmap.close();
    }
}

/** The pixels of something that can be drawn, transparency laid on white. @returns {import("../types.js").Picture} */
export function pixelsOf(drawable, width, height, name = "The picture") {
    if (Math.min(width, height) < SMALLEST) {
        throw new UserError(`${name} is ${width}x${height} px: use one of at least ${SMALLEST} px a side.`);
    }
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
