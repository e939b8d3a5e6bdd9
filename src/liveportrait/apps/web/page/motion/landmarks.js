/** Moves the keypoints of M's motion to tracked landmarks (motion/landmarks.py). */

import { constants } from "../constants.js";
import { headPose } from "../face/measures.js";
import { multiply, transposed } from "./geometry.js";

/** @typedef {import("../types.js").CropWindow} CropWindow @typedef {import("../types.js").Motion} Motion */
/** @typedef {import("../types.js").SeenKeypoints} SeenKeypoints @typedef {import("../types.js").SeenHead} SeenHead */

/** The keypoints and head pose that landmarks (478·3) px of a frame show. @returns {SeenKeypoints} */
export function seenKeypoints(landmarks) {
    const { keypoints } = constants.measures;
    const points = Float32Array.from({ length: 2 * keypoints.length }, (_, index) => {
        return landmarks[3 * keypoints[index >> 1] + (index & 1)];
    });
    return { points, rotation: Float32Array.from(headPose(landmarks).rotation) };
}

/** The head that landmarks (478·3) px of a frame show. @returns {SeenHead} */
export function seenHead(landmarks) {
    const { rotation, scale, translation } = headPose(landmarks);
    const middle = multiply(constants.measures.rigidCentre, rotation);
    const centre = Float32Array.of(translation[0] + scale * middle[0], translation[1] + scale * middle[1]);
    return { keypoints: seenKeypoints(landmarks), scale, centre };
}

/** The same face in a crop: points in px of the crop, without the crop's roll. @param {CropWindow} window */
export function through(seen, window) {
    const [a, b, , c, d] = window.matrix;
    const zoom = zoomOf(window);
    const turn = [a / zoom, c / zoom, 0, b / zoom, d / zoom, 0, 0, 0, 1];
    return { points: moved(seen.points, window), rotation: multiply(seen.rotation, turn) };
}

/** The same head in a crop. @param {SeenHead} head @param {CropWindow} window @returns {SeenHead} */
export function throughHead(head, window) {
    return {
        keypoints: through(head.keypoints, window),
        scale: head.scale * zoomOf(window),
        centre: moved(head.centre, window),
    };
}

/**
 * The motion of a face seen as `seen`, given that it was seen as `first` at the motion `start`, on crops of `size` px.
 *
 * Identity stays; scale and position change as the head's do; rotation is the tracker's. The expression's x and y move
 * the keypoints to where they were seen; its depth rotates with the head.
 *
 * @param {Motion} start @param {SeenHead} first @param {SeenHead} seen @returns {Motion}
 */
export function motionFromHeads(start, first, seen, size) {
    const [x, y, z] = start.translation;
    const way = [0, 1].map((axis) => (seen.centre[axis] - first.centre[axis]) * (2 / size));
    const { rotation } = seen.keypoints;
    const own = multiply(start.expression, transposed(start.rotation)); // in the head's frame
    const motion = {
        rotation,
        translation: Float32Array.of(x + way[0], y + way[1], z),
        scale: Float32Array.of((start.scale[0] * seen.scale) / first.scale),
        canonical: start.canonical,
        expression: multiply(own, rotation),
    };
    return snapToLandmarks(motion, seen.keypoints, size);
}

/**
 * The motion with its keypoints moved to where they were seen, on crops of `size` px: δ = (x − t)/s − x_c R, except for
 * depth.
 */
export function snapToLandmarks(motion, seen, size) {
    const turned = multiply(motion.canonical, seen.rotation);
    const expression = motion.expression.map((value, index) => {
        const [keypoint, axis] = [Math.floor(index / 3), index % 3];
        if (axis === 2) {
            return value; // depth is not seen
        }
        const place = seen.points[2 * keypoint + axis] * (2 / size) - 1;
        return (place - motion.translation[axis]) / motion.scale[0] - turned[index];
    });
    return { ...motion, rotation: seen.rotation, expression };
}

function zoomOf({ matrix: [a, b, , c, d] }) {
    return Math.sqrt(a * d - b * c);
}

function moved(points, { matrix: [a, b, x, c, d, y] }) {
    const result = new Float32Array(points.length);
    for (let index = 0; index < points.length; index += 2) {
        result[index] = a * points[index] + b * points[index + 1] + x;
        result[index + 1] = c * points[index] + d * points[index + 1] + y;
    }
    return result;
}
