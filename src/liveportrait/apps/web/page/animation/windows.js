/**
 * The crop windows of a driver's face. They glide with the face, which removes the camera's movement from the head's
 * (animation/driver/framing.py).
 *
 * @typedef {import("../types.js").CropWindow} CropWindow
 * @typedef {import("../types.js").SeenHead} SeenHead
 * @typedef {import("../types.js").Square} Square
 */

import { constants } from "../constants.js";
import { windowOf } from "../face/crop.js";
import { multiply } from "../motion/geometry.js";
import { glided, LiveGlide } from "../motion/gliding.js";

/** The framing of a head: x and y of the neck, px, and the logarithm of the face's size, px. @param {SeenHead} head */
function framingOf(head) {
    const lever = multiply(constants.motion.framing.neck, head.keypoints.rotation);
    const [x, y] = head.centre;
    const size = Math.log(constants.face.gliding.face * head.scale);
    return [x + head.scale * lever[0], y + head.scale * lever[1], size];
}

/** The window of a face tracked live, frame by frame. */
export class LiveWindow {
    /** @param {SeenHead} head in the reference frame @param {Square} square around its face @param {number} fps */
    constructor(head, square, fps) {
        const [x, y, size] = framingOf(head);
        const side = Math.exp(size);
        this.glide = new LiveGlide(fps);
        this.aside = [(square.centre[0] - x) / side, (square.centre[1] - y) / side];
        this.larger = square.side / side;
    }

    /** The window of the next frame that shows the face. @param {SeenHead} head @returns {CropWindow} */
    next(head) {
        const [x, y, size] = this.glide.next(framingOf(head));
        const side = Math.exp(size);
        const centre = [x + side * this.aside[0], y + side * this.aside[1]];
        return windowOf({ centre, side: side * this.larger, roll: 0 });
    }
}

/**
 * The windows of all frames of a scene: the mean square of the face while the framing is still, moving along with the
 * framing otherwise (animation/driver/framing.py).
 *
 * @param {SeenHead[]} heads and @param {Square[]} squares of the frames `rows` that show the face, of `count`
 * @returns {CropWindow[]}
 */
export function glidingWindows(heads, squares, rows, count, fps) {
    const first = rows[0];
    const gliding = glided(bridged(heads.map(framingOf), rows), fps);
    const mean = (value) => rows.reduce((sum, row, index) => sum + value(squares[index], gliding[row - first]), 0) / rows.length;
    const aside = [0, 1].map((axis) => mean(({ centre }, row) => (centre[axis] - row[axis]) / Math.exp(row[2])));
    const larger = mean(({ side }, row) => side / Math.exp(row[2]));
    return Array.from({ length: count }, (_, frame) => {
        // Before the first face and after the last the window is still.
        const [x, y, size] = gliding[Math.min(Math.max(frame - first, 0), gliding.length - 1)];
        const side = Math.exp(size);
        return windowOf({ centre: [x + side * aside[0], y + side * aside[1]], side: side * larger, roll: 0 });
    });
}

/** A path known at frames `rows`, interpolated linearly to every frame between them. */
function bridged(path, rows) {
    const whole = [];
    for (let index = 0; index < rows.length - 1; index++) {
        const length = rows[index + 1] - rows[index];
        for (let step = 0; step < length; step++) {
            whole.push(path[index].map((value, column) => value + (step / length) * (path[index + 1][column] - value)));
        }
    }
    return [...whole, path.at(-1)];
}
