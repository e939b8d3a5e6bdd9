/**
 * 478 face landmarks from a rotated square of the picture (face/mesh.py).
 *
 * @typedef {import("../types.js").Picture} Picture
 *
 * @typedef {object} MeshRegion the part of a picture that the network sees: a square turned so that the eyes lie level
 * @property {number} x centre, px
 * @property {number} y
 * @property {number} side px
 * @property {number} roll radians, positive clockwise on the screen
 */

import { constants } from "../constants.js";
import { cutOut, resizeArea, warpAffine } from "./resampling.js";

/** The square for a face box x0, y0, x1, y1 with the eyes of the subject. @returns {MeshRegion} */
export function regionAround(box, rightEye, leftEye) {
    return {
        x: (box[0] + box[2]) / 2,
        y: (box[1] + box[3]) / 2,
        side: constants.face.mesh.room * Math.max(box[2] - box[0], box[3] - box[1]),
        roll: Math.atan2(leftEye[1] - rightEye[1], leftEye[0] - rightEye[0]),
    };
}

/** The square for a face whose landmarks (478·3) are known: where to look for it again. @returns {MeshRegion} */
export function regionOfLandmarks(landmarks) {
    const [rightEye, leftEye] = constants.face.mesh.eyeCorners.map((row) => [
        landmarks[3 * row],
        landmarks[3 * row + 1],
    ]);
    return regionAround(boxOf(landmarks), rightEye, leftEye);
}

/** x0, y0, x1, y1 of landmarks (n·3), px; it may reach outside the picture. @returns {import("../types.js").Box} */
export function boxOf(landmarks) {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (let at = 0; at < landmarks.length; at += 3) {
        for (const axis of [0, 1]) {
            box[axis] = Math.min(box[axis], landmarks[at + axis]);
            box[axis + 2] = Math.max(box[axis + 2], landmarks[at + axis]);
        }
    }
    return box;
}

/** Matrix (2·3): px of the network's input -> px of the picture. @returns {Float64Array} */
function regionToPicture(region) {
    const scale = region.side / constants.face.mesh.side;
    const [cos, sin] = [scale * Math.cos(region.roll), scale * Math.sin(region.roll)];
    const half = constants.face.mesh.side / 2;
    return Float64Array.of(cos, -sin, region.x - half * (cos - sin), sin, cos, region.y - half * (sin + cos));
}

export class Mesh {
    /** @param {import("../types.js").Network} network face_landmarks */
    constructor(network) {
        this.network = network;
    }

    /**
     * Landmarks (478·3) in px of a picture, and how sure (0..1) the network is of a face.
     *
     * z is in the same scale, grows away from the camera and is 0 near the middle of the head.
     */
    async measure(picture, region) {
        const { side } = constants.face.mesh;
        const matrix = regionToPicture(region);
        const { data } = sampled(picture, matrix);
        const pixels = new Float32Array(3 * side * side);
        for (let at = 0, out = 0; at < data.length; at += 4) {
            pixels[out++] = data[at] / 255;
            pixels[out++] = data[at + 1] / 255;
            pixels[out++] = data[at + 2] / 255;
        }
        const [raw, presence] = await this.network([{ dims: [1, side, side, 3], data: pixels }]);
        const landmarks = new Float32Array(raw.data.length);
        for (let at = 0; at < landmarks.length; at += 3) {
            const [x, y] = [raw.data[at], raw.data[at + 1]];
            landmarks[at] = matrix[0] * x + matrix[1] * y + matrix[2];
            landmarks[at + 1] = matrix[3] * x + matrix[4] * y + matrix[5];
            landmarks[at + 2] = (raw.data[at + 2] * region.side) / side;
        }
        return { landmarks, score: 1 / (1 + Math.exp(-presence.data[0])) };
    }
}

/** The square as 256×256 px; outside the picture its edge pixels are repeated. @returns {Picture} */
export function sampled(picture, toPicture) {
    const { side } = constants.face.mesh;
    let [a, b, x, c, d, y] = toPicture;
    // If the square is much larger than 256 px, shrink the picture around it first: bilinear samples would alias.
    const shrink = Math.trunc(Math.hypot(a, c));
    if (shrink >= 2) {
        const acrossX = [x, a * side + x, b * side + x, (a + b) * side + x];
        const acrossY = [y, c * side + y, d * side + y, (c + d) * side + y];
        const first = (values, length) => clip(Math.floor(Math.min(...values)) - shrink, 0, length - 1);
        const last = (values, length) => clip(Math.ceil(Math.max(...values)) + shrink, 1, length);
        const [x0, y0] = [first(acrossX, picture.width), first(acrossY, picture.height)];
        const x1 = Math.max(last(acrossX, picture.width), x0 + 1);
        const y1 = Math.max(last(acrossY, picture.height), y0 + 1);
        const part = cutOut(picture, x0, y0, x1, y1);
        const width = Math.max(1, Math.floor(part.width / shrink));
        const height = Math.max(1, Math.floor(part.height / shrink));
        picture = resizeArea(part, width, height);
        const [ratioX, ratioY] = [width / part.width, height / part.height];
        [a, b, c, d] = [a * ratioX, b * ratioX, c * ratioY, d * ratioY];
        [x, y] = [(x - x0 + 0.5) * ratioX - 0.5, (y - y0 + 0.5) * ratioY - 0.5];
    }
    return warpAffine(picture, [a, b, x, c, d, y], side, side, true);
}

function clip(value, low, high) {
    return Math.min(Math.max(value, low), high);
}
