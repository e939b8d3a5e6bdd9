/**
 * The windows of a driver's face: they glide with it, so that what its camera does is not what it does
 * (animation/driver/framing.py).
 *
 * @typedef {import("../types.js").CropWindow} CropWindow
 * @typedef {import("../types.js").SeenHead} SeenHead
 * @typedef {import("../types.js").Square} Square
 */

import { constants } from "../constants.js";
import { windowOf } from "../face/crop.js";
import { multiply } from "../motion/geometry.js";
import { LiveGlide } from "../motion/gliding.js";

/** The framing of a head: x and y of the neck, px, and the logarithm of the face's size, px. @param {SeenHead} head */
export function framingOf(head) {
    const lever = multiply(constants.motion.framing.neck, head.keypoints.rotation);
    const [x, y] = head.centre;
    const size = Math.log(constants.face.gliding.face * head.scale);
    return [x + head.scale * lever[0], y + head.scale * lever[1], size];
}

/** The window of a face that is seen frame by frame. */
export class LiveWindow {
    /** @param {SeenHead} head of the frame that motion starts from @param {Square} square there @param {number} fps */
    constructor(head, square, fps) {
        const [x, y, size] = framingOf(head);
        const side = Math.exp(size);
        this.glide = new LiveGlide(fps);
        this.aside = [(square.centre[0] - x) / side, (square.centre[1] - y) / side];
        this.larger = square.side / side;
    }

    /** That of the next frame that shows the face. @param {SeenHead} head @returns {CropWindow} */
    next(head) {
        const [x, y, size] = this.glide.next(framingOf(head));
        const side = Math.exp(size);
        const centre = [x + side * this.aside[0], y + side * this.aside[1]];
        return windowOf({ centre, side: side * this.larger, roll: 0 });
    }
}
