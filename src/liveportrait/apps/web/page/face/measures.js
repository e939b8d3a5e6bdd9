/** Measures of a face by its landmarks: head pose, openings of eyes and lips (face/measures.py). */

import { constants } from "../constants.js";
import { nearestRotation } from "../motion/geometry.js";

/** The canonical face's rigid fit to landmarks (478·3). @returns {import("../types.js").HeadPose} */
export function headPose(landmarks) {
    const { rows, vertices, weights } = constants.measures.fit;
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const [source, target] = [new Float64Array(3), new Float64Array(3)];
    rows.forEach((row, index) => {
        for (let axis = 0; axis < 3; axis++) {
            source[axis] += (weights[index] / total) * vertices[3 * index + axis];
            target[axis] += (weights[index] / total) * landmarks[3 * row + axis];
        }
    });
    const products = new Float64Array(9);
    let size = 0;
    rows.forEach((row, index) => {
        const share = weights[index] / total;
        for (let from = 0; from < 3; from++) {
            const centred = vertices[3 * index + from] - source[from];
            size += share * centred * centred;
            for (let to = 0; to < 3; to++) {
                products[3 * from + to] += centred * share * (landmarks[3 * row + to] - target[to]);
            }
        }
    });
    const rotation = Float64Array.from(nearestRotation(products));
    const scale = rotation.reduce((sum, value, index) => sum + value * products[index], 0) / size;
    const translation = target.map((value, axis) => {
        const turned = source.reduce((sum, each, from) => sum + each * rotation[3 * from + axis], 0);
        return value - scale * turned;
    });
    return { rotation, scale, translation };
}

/** Openings (3,) of the eye on the picture's left, the other eye and the mouth: height over width. */
export function openingRatios(landmarks) {
    const { eyes, lips } = constants.measures;
    return Float32Array.from([...eyes, lips], (part) => ratio(landmarks, part));
}

function ratio(landmarks, { lids, corners }) {
    return distance(landmarks, ...lids) / (distance(landmarks, ...corners) + constants.measures.epsilon);
}

function distance(landmarks, first, second) {
    const apart = (axis) => landmarks[3 * first + axis] - landmarks[3 * second + axis];
    return Math.hypot(apart(0), apart(1));
}

/**
 * Scores (53): blendshapes without gaze and with blinking doubled, and the opening of the lips.
 * @param {Float32Array} blendshapes (52)
 */
export function faceScores(blendshapes, landmarks) {
    const { leftOut, twice, lips } = constants.measures.scores;
    const scores = Float32Array.of(...blendshapes, lips * openingRatios(landmarks)[2]);
    leftOut.forEach((index) => (scores[index] = 0));
    twice.forEach((index) => (scores[index] *= 2));
    return scores;
}

/** The cost of a driver's face with `scores` as the reference for a face with scores `source`: 0 for two neutral faces. */
export function similarityCost(scores, source) {
    const { difference } = constants.measures.scores;
    return scores.reduce((cost, score, index) => cost + difference * Math.abs(score - source[index]) + score, 0);
}
