/**
 * From a driver's motion to the motion that the source should take, for one frame (motion/transfer.py).
 *
 * All functions are pure. The canonical keypoints are always the source's own, as they are its identity. Keypoints
 * must be landmarks, as those of the compact weights are.
 */

import { constants } from "../constants.js";
import {
    clamp,
    combined,
    difference,
    multiply,
    nearestRotation,
    scaled,
    sum,
    transposed,
    withoutDepth,
} from "./geometry.js";

/** @typedef {import("../types.js").Motion} Motion @typedef {import("../types.js").Pose} Pose */

const movesHead = (region) => region === "all" || region === "pose";

/**
 * The change from `first` to `driving`, as a motion to add to another face: R·R_0ᵀ, s/s_0, δ − δ_0. The translation is
 * that of the neck, in units of s_0: how far turning about the neck moves the head depends on the head that turns.
 */
export function changeSince(driving, first) {
    const moved = difference(driving.translation, first.translation);
    const swing = difference(lever(driving), lever(first));
    return {
        rotation: multiply(driving.rotation, transposed(first.rotation)),
        translation: scaled(sum(moved, swing), 1 / first.scale[0]),
        scale: combined(driving.scale, first.scale, (now, then) => now / then),
        canonical: driving.canonical,
        expression: difference(driving.expression, first.expression),
    };
}

/** The motion with its neck where `place` has it, plus a shift in the crop. */
export function withNeck(motion, place, shift = new Float32Array(3)) {
    const neck = sum(sum(place.translation, lever(place)), shift);
    return { ...motion, translation: withoutDepth(difference(neck, lever(motion))) };
}

/** Where the neck is in the crop, relative to the translation. */
function lever(motion) {
    return scaled(multiply(constants.motion.framing.neckInHead, motion.rotation), motion.scale[0]);
}

/** The driver's motion expressed with the canonical keypoints of its first frame; unknown (NaN) ones are not corrected. */
export function fixCanonical(driving, first) {
    const excess = combined(driving.canonical, first.canonical, (now, then) => now - then || 0);
    const expression = sum(driving.expression, multiply(excess, driving.rotation));
    return { ...driving, canonical: first.canonical, expression };
}

/** The source moved by a driver's change (`changeSince`), within a region of the face. */
export function relative(source, change, region) {
    const mask = constants.motion.groups.relative[region];
    const moves = movesHead(region);
    const moved = {
        rotation: moves ? multiply(change.rotation, source.rotation) : source.rotation,
        translation: withoutDepth(source.translation),
        scale: region === "all" ? scaled(source.scale, change.scale[0]) : source.scale,
        canonical: source.canonical,
        expression: source.expression.map((own, index) => own + (mask[index] ? change.expression[index] : 0)),
    };
    return moves ? withNeck(moved, source, scaled(change.translation, source.scale[0])) : moved;
}

/** A still source with a driving photo's expression added: δ minus that of a face at rest, for "eyes" all of δ. */
export function relativeFromPhoto(source, driving, region) {
    const rest = constants.motion.groups.neutral;
    const stay = {
        rotation: Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1),
        translation: new Float32Array(3),
        scale: Float32Array.of(1),
        canonical: driving.canonical,
        expression: region === "eyes" ? driving.expression : difference(driving.expression, rest),
    };
    return relative(source, stay, region);
}

/** The motion with the source's own mouth, or with `silent` that of a face at rest. */
export function withMouth(motion, source, silent) {
    const { mouth, neutral } = constants.motion.groups;
    const own = silent ? neutral : source.expression;
    const expression = motion.expression.slice();
    for (const keypoint of mouth) {
        for (let index = 3 * keypoint; index < 3 * keypoint + 3; index++) {
            expression[index] = own[index];
        }
    }
    return { ...motion, expression };
}

/** The motion with the driver's own head rotation, for driving photos. */
export function takePose(motion, driving) {
    return withNeck({ ...motion, rotation: driving.rotation }, motion);
}

/** The source with the driver's own pose, position and expression; the scale stays the source's. */
export function absolute(source, driving, region) {
    const mask = constants.motion.groups.absolute[region];
    const head = movesHead(region) ? driving : source;
    return {
        rotation: head.rotation,
        translation: withoutDepth(head.translation),
        scale: source.scale,
        canonical: source.canonical,
        expression: source.expression.map((own, index) => (mask[index] ? driving.expression[index] : own)),
    };
}

/** The motion with the source's own rotation, position and scale: only the expression changes. */
export function lockHead(motion, source) {
    const { rotation, translation, scale } = source;
    return { ...motion, rotation, translation, scale };
}

/** The motion with the source's own scale: the head moves neither closer nor away. */
export function lockScale(motion, source) {
    return withNeck({ ...motion, scale: source.scale }, motion);
}

/** The motion with the base of the neck fixed where it is in the source: the head turns about it. */
export function lockShoulders(motion, source) {
    return withNeck(motion, source);
}

/** x_s + (x_d − x_s)·multiplier, and the rigid motion likewise: 0 is the source, 1 the driver. */
export function amplify(source, driving, multiplier) {
    if (multiplier === 1) {
        return driving;
    }
    const blend = (start, end) => combined(start, end, (from, to) => from + (to - from) * multiplier);
    const scale = blend(source.scale, driving.scale);
    return {
        keypoints: blend(source.keypoints, driving.keypoints),
        rotation: nearestRotation(blend(source.rotation, driving.rotation)),
        translation: blend(source.translation, driving.translation),
        scale: Float32Array.of(clamp(scale[0], 0.1 * source.scale[0], Infinity)),
        pin: driving.pin,
    };
}
