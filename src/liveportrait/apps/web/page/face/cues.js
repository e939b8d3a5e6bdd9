/**
 * What a picture shows of a mouth besides its landmarks: teeth, tongue, darkness (face/measures.py, `mouth_cues`, and
 * networks/compact/painter.py, `patch_cues`).
 */

import { constants } from "../constants.js";
import { headPose } from "./measures.js";
import { invertAffine, warpAffine } from "./resampling.js";

/** @typedef {import("../types.js").Picture} Picture */

/**
 * Brightness of the upper, middle and lower third between the lips, relative to the patch's mean, minus 1; four times
 * how much redder it is there than in the patch. All fade to 0 as the lips meet. The last is 1: the cues are known.
 *
 * @param {Picture} picture @param {Float32Array} landmarks (478·3) px of it @returns {Float32Array} (5)
 */
export function mouthCues(picture, landmarks) {
    const { around, mouth, width, height } = constants.face.cues;
    const rows = around.map((row) => [landmarks[3 * row], landmarks[3 * row + 1]]);
    const middle = [0, 1].map((axis) => rows.reduce((sum, point) => sum + point[axis], 0) / rows.length);
    const toPatch = uprightPatch(landmarks, middle);
    const [a, b, , c, d] = toPatch;
    const shape = mouth.map((row) => {
        const [x, y] = [landmarks[3 * row] - middle[0], landmarks[3 * row + 1] - middle[1]];
        return [((a * x + b * y) * 2) / width, ((c * x + d * y) * 2) / width];
    });
    return patchCues(warpAffine(picture, invertAffine(toPatch), width, height, true), shape);
}

/** Matrix (2·3) from px of a picture to px of the patch around a point, rotated and scaled with the head. */
function uprightPatch(landmarks, middle) {
    const { halfWidth, width, height } = constants.face.cues;
    const { rotation, scale } = headPose(landmarks);
    const length = Math.max(Math.hypot(rotation[0], rotation[1]), constants.measures.epsilon);
    const zoom = width / 2 / (halfWidth * scale);
    const [right, down] = [(rotation[0] / length) * zoom, (rotation[1] / length) * zoom];
    const x = (width - 1) / 2 - (right * middle[0] + down * middle[1]);
    const y = (height - 1) / 2 - (right * middle[1] - down * middle[0]);
    return [right, down, x, -down, right, y];
}

/** The cues of a patch, with the six lip keypoints in its coordinates: corners, inner upper and lower, outer lower and upper. */
function patchCues({ data }, shape) {
    const { width, height, luma, parted } = constants.face.cues;
    const [right, left] = shape;
    const wide = Math.max(Math.hypot(left[0] - right[0], left[1] - right[1]), 1e-3);
    const [alongX, alongY] = [(left[0] - right[0]) / wide, (left[1] - right[1]) / wide];
    const centre = [(right[0] + left[0]) / 2, (right[1] + left[1]) / 2];
    const heightOf = ([x, y]) => (y - centre[1]) * alongX - (x - centre[0]) * alongY;
    const [upper, lower] = [heightOf(shape[2]), heightOf(shape[3])];
    const opening = lower - upper;
    const thirds = [1 / 6, 1 / 2, 5 / 6].map((middle) => ({ middle, weight: 0, light: 0 }));
    let [light, red, redInside, inside] = [0, 0, 0, 0];
    for (let y = 0, at = 0; y < height; y++) {
        const v = (((y + 0.5) / height) * 2 - 1) * (height / width) - centre[1];
        for (let x = 0; x < width; x++, at += 4) {
            const u = ((x + 0.5) / width) * 2 - 1 - centre[0];
            const along = (u * alongX + v * alongY) / (wide / 2);
            const across = v * alongX - u * alongY;
            const arch = Math.max(1 - along * along, -1); // lips are parabolas through both corners
            const gap = Math.max(opening * arch, 1e-3);
            const depth = (across - upper * arch) / gap; // 0 at the upper, 1 at the lower lip
            const isInside = depth > 0 && depth < 1 && Math.abs(along) < 0.8 && gap > 0.02;
            const grey = (data[at] * luma[0] + data[at + 1] * luma[1] + data[at + 2] * luma[2]) / 255;
            const redness = (data[at] - data[at + 1]) / 255;
            light += grey;
            red += redness;
            if (isInside) {
                inside += 1;
                redInside += redness;
            }
            for (const third of thirds) {
                const share = isInside ? Math.max(1 - Math.abs(depth - third.middle) * 3, 0) : 0;
                third.weight += share + 1e-6;
                third.light += (share + 1e-6) * grey;
            }
        }
    }
    const count = width * height;
    const mean = Math.max(light / count, 0.05);
    const cues = thirds.map((third) => third.light / third.weight / mean - 1);
    cues.push(4 * (redInside / Math.max(inside, 1) - red / count));
    const shown = Math.min(Math.max(opening / parted, 0), 1);
    return Float32Array.of(...cues.map((cue) => cue * shown), 1);
}
