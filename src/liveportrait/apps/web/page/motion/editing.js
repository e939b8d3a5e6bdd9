/**
 * Portrait editing: a motion changed by sliders, before stitching (motion/editing.py). Keypoints must be landmarks; the
 * directions of the sliders rotate with the head.
 */

import { constants } from "../constants.js";
import {
    clamp,
    combined,
    eulerDegrees,
    multiply,
    poseOf,
    rotationMatrix,
    scaled,
    sum,
    transposed,
} from "./geometry.js";
import { amountToClose, direction } from "./retargeting.js";
import { withNeck } from "./transfer.js";

/** @typedef {import("../types.js").Motion} Motion */

const ANGLES = ["pitch", "yaw", "roll"];
// Slider, what it closes (a column of `amountToClose`), and its sign.
const CLOSING = [["wink", 1, 1], ["lips", 2, -1], ["silent", 2, 1]];

/**
 * The motion with sliders set to values by name; sliders that are not named are at rest.
 *
 * @param {Motion} motion @param {Record<string, number>} values @returns {Motion}
 */
export function edit(motion, values) {
    const edited = withExpression(turned(motion, values), values);
    const shift = Float32Array.of(values.move_x ?? 0, -(values.move_y ?? 0), 0);
    return {
        ...edited,
        scale: scaled(edited.scale, values.move_z ?? 1),
        translation: sum(edited.translation, shift),
    };
}

/** The motion with an amount (0..1) of another face's expression in place of its own. */
export function copyExpression(motion, other, amount) {
    const theirs = multiply(multiply(other.expression, transposed(other.rotation)), motion.rotation);
    const expression = combined(motion.expression, theirs, (own, taken) => own + amount * (taken - own));
    return { ...motion, expression };
}

/** Add degrees to the head's pose. The head turns about the neck, and the expression turns with it. */
function turned(motion, values) {
    if (!ANGLES.some((name) => name in values)) {
        return motion;
    }
    const angles = eulerDegrees(motion.rotation).map((angle, index) => angle + (values[ANGLES[index]] ?? 0));
    const rotation = rotationMatrix(...angles);
    const expression = multiply(multiply(motion.expression, transposed(motion.rotation)), rotation);
    return withNeck({ ...motion, rotation, expression }, motion);
}

function withExpression(motion, values) {
    const { mouth, neutral } = constants.motion.groups;
    let expression = motion.expression.slice();
    const rest = (index, amount) => (expression[index] += amount * (neutral[index] - expression[index]));
    if ("neutral" in values) {
        expression.forEach((_, index) => rest(index, values.neutral));
    }
    if ("silent" in values) {
        mouth.forEach((keypoint) => [0, 1, 2].forEach((axis) => rest(3 * keypoint + axis, values.silent)));
    }
    let offset = new Float32Array(expression.length);
    for (const [name, { positive, negative }] of Object.entries(constants.motion.directions)) {
        if (name in values) {
            offset = sum(offset, scaled(values[name] < 0 ? negative : positive, Math.abs(values[name])));
        }
    }
    expression = sum(expression, multiply(offset, motion.rotation));
    const closing = multiply(closingOffsets({ ...motion, expression }, values), motion.rotation);
    return { ...motion, expression: sum(expression, closing) };
}

/** Head-frame offsets that close an eye or the lips, however open they are. */
function closingOffsets(motion, values) {
    const pose = poseOf(motion);
    let offset = new Float32Array(motion.expression.length);
    for (const [slider, column, sign] of CLOSING) {
        if (slider in values) {
            const part = clamp(sign * values[slider], 0, 1) * amountToClose(pose, column);
            offset = sum(offset, scaled(direction(column), part));
        }
    }
    return offset;
}
