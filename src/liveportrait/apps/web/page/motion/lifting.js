/** Landmarks of a face without head pose, size and position (motion/lifting.py). */

import { constants } from "../constants.js";

/**
 * Landmarks (111·2), in any unit, of a head with rotation `turn` (3·3), rotated back using the mean face's depth.
 *
 * @returns {{landmarks: Float32Array, unit: number}} (111·2) in the head's own frame, minus the mean face's; the rigid
 * points' RMS radius, in units of the points
 */
export function flattened(points, turn) {
    const { mean, rigid } = constants.measures.lifting;
    const [a, b, , c, d, , e, f] = turn;
    const model = rigid.map((row) => {
        const [x, y, z] = mean.slice(3 * row, 3 * row + 3);
        return [x * a + y * c + z * e, x * b + y * d + z * f];
    });
    const seen = rigid.map((row) => [points[2 * row], points[2 * row + 1]]);
    const { scale, shift } = fitRigid(seen, model);
    const determinant = a * d - b * c;
    const landmarks = new Float32Array(points.length);
    for (let row = 0; row < points.length / 2; row++) {
        const depth = mean[3 * row + 2];
        const x = (points[2 * row] - shift[0]) / scale - depth * e;
        const y = (points[2 * row + 1] - shift[1]) / scale - depth * f;
        landmarks[2 * row] = (x * d - y * c) / determinant - mean[3 * row];
        landmarks[2 * row + 1] = (y * a - x * b) / determinant - mean[3 * row + 1];
    }
    return { landmarks, unit: scale };
}

/** Scale and shift that bring scale·model + shift closest to the observed points. */
function fitRigid(seen, model) {
    const [seenCentre, modelCentre] = [seen, model].map(centreOf);
    let [along, size] = [0, 0];
    seen.forEach((point, index) => {
        for (const axis of [0, 1]) {
            const centred = model[index][axis] - modelCentre[axis];
            along += (point[axis] - seenCentre[axis]) * centred;
            size += centred * centred;
        }
    });
    const scale = along / size;
    return { scale, shift: seenCentre.map((value, axis) => value - scale * modelCentre[axis]) };
}

function centreOf(points) {
    return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
}
