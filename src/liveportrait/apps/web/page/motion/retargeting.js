/**
 * Opens eyes and lips to a given ratio and keeps the rest of the driver's motion (motion/retargeting.py).
 *
 * The ratio of an eye or of the lips is height over width in the picture. Ratios come in threes: the eye on the
 * picture's left, the one on its right, the lips. Keypoints must be landmarks.
 */

import { constants } from "../constants.js";
import { clamp, combined, multiply, scaled, transposed } from "./geometry.js";
import { askedOfEye, askedOfLips, lagOfLips } from "./response.js";

/** @typedef {import("../types.js").Pose} Pose */
/** @typedef {{source: Float32Array, driver: ?Float32Array}} Ratios (3,) of the source and of the driver */

const LIPS = 2; // column

/**
 * The pose with eyes and lips opened to targets (3,), before stitching. A target is a number, "driver" for the driver's
 * own opening, or null to keep that of the motion.
 *
 * With `normalizeLips`, lips that are open in the source start closed; with `usualEyes` (2,), eyes without a target start
 * from that opening. Throws if the driver's ratios are needed but unknown.
 *
 * @param {Pose} pose @param {Pose} source @param {Ratios} ratios
 */
export async function retarget(networks, pose, source, ratios, targets, normalizeLips = false, usualEyes = null) {
    const wanted = targets.map((target, column) => targetRatio(target, ratios, column));
    const now = seen(pose, source, ratios);
    if (usualEyes) {
        for (const column of [0, 1]) {
            const usual = clamp(usualEyes[column] + now[column] - ratios.source[column], 0, widest());
            wanted[column] = wanted[column] ?? usual;
        }
    }
    if (!normalizeLips && wanted.every((target) => target === null)) {
        return pose;
    }
    const own = ratios.source;
    const shown = wanted[LIPS] === null ? null : askedOfLips(wanted[LIPS], own[LIPS], lipRatio(pose));
    const opened = byLandmarks(pose, source, own, shown, normalizeLips);
    const eyes = wanted.slice(0, 2).map((target, column) => target === null ? null : askedOfEye(target, own[column]));
    return { ...opened, keypoints: await withEyes(networks, opened.keypoints, source, now, eyes) };
}

/** The usual openings (2,) of the eyes of a still face with ratios (3,); open ones if they are shut. */
export function usualEyes(ratios) {
    const { shut, opened } = constants.motion.retargeting;
    return (ratios[0] + ratios[1]) / 2 >= shut ? ratios.slice(0, 2) : Float32Array.of(opened, opened);
}

/** The ratio of lips whose keypoints are landmarks. */
export function lipRatio(pose) {
    return gap(pose.keypoints, LIPS, pose) / mouthWidth(pose.keypoints);
}

/** Lips opened by `more`. */
export function openLips(pose, more) {
    const towards = moved(direction(LIPS), pose);
    const change = mouthWidthChange(pose.keypoints, towards);
    const target = lipRatio(pose) + more;
    const amount = (more * mouthWidth(pose.keypoints)) / (gap(towards, LIPS, pose) - target * change);
    return { ...pose, keypoints: along(pose.keypoints, amount, towards) };
}

/** The pose with lips opened far enough for the picture to show it; for lips moved by a slider, without a target. */
export function widenLipGap(pose, source) {
    return openLips(pose, lagOfLips(lipRatio(pose), lipRatio(source)));
}

/** The distance along a direction that closes an eye (column 0 or 1) or the lips (2); never negative. */
export function amountToClose(pose, column) {
    const towards = moved(direction(column), pose);
    const amount = gap(pose.keypoints, column, pose) / -gap(towards, column, pose);
    return column === LIPS ? Math.min(amount, 0) : Math.max(amount, 0);
}

/** The offsets that close an eye or open the lips, in the head's own frame. */
export function direction(column) {
    const { directions, retargeting } = constants.motion;
    return directions[retargeting.directions[column]].positive;
}

function widest() {
    return constants.motion.response.eyes.at(-1);
}

function targetRatio(target, ratios, column) {
    if (target !== "driver") {
        return target;
    }
    if (!ratios.driver) {
        throw new Error("How far the driver's eyes and lips open is unknown: give a number.");
    }
    return clamp(ratios.driver[column], 0, widest());
}

/** Close the lips first if requested, then solve for the distance a along their direction: (g + aΔg) = c (w + aΔw). */
function byLandmarks(pose, source, own, target, normalizeLips) {
    const towards = moved(direction(LIPS), pose);
    let keypoints = pose.keypoints;
    if (normalizeLips && own[LIPS] >= constants.motion.retargeting.lipsOpen) {
        keypoints = along(keypoints, amountToClose(source, LIPS), towards);
    }
    if (target !== null) {
        const miss = target * mouthWidth(keypoints) - gap(keypoints, LIPS, pose);
        const effect = gap(towards, LIPS, pose) - target * mouthWidthChange(keypoints, towards);
        keypoints = along(keypoints, miss / effect, towards);
    }
    return { ...pose, keypoints };
}

/** Keypoints with each eye that has a target moved by the network, starting from the ratios `now`. */
async function withEyes(networks, keypoints, source, now, targets) {
    const count = keypoints.length / 3;
    let moved = keypoints;
    for (const [column, target] of targets.entries()) {
        if (target !== null) {
            const ratios = Float32Array.of(Math.max(now[0], 0), Math.max(now[1], 0), target);
            const [offset] = await networks.eye_retargeting([
                { dims: [1, count, 3], data: keypoints },
                { dims: [1, 3], data: ratios },
            ]);
            const share = shareOfEye(source, column);
            moved = moved.map((value, index) => value + share[Math.floor(index / 3)] * offset.data[index]);
        }
    }
    return moved;
}

/** The share (21,) of each keypoint that belongs to an eye: 1 on its side of the face, half in the middle. */
function shareOfEye(source, column) {
    const upright = multiply(source.keypoints, transposed(source.rotation));
    const x = upright.filter((_, index) => index % 3 === 0);
    const middle = x.reduce((total, value) => total + value, 0) / x.length;
    const across = x.map((value) => value - middle);
    const reach = Math.max(...constants.motion.groups.eyes.map((eye) => Math.abs(across[eye])), 1e-4);
    const right = across.map((value) => clamp(0.5 + value / reach, 0, 1));
    return column ? right : right.map((value) => 1 - value);
}

/** The ratios (3,) of a pose: the source's, changed as the distances between keypoints are. */
function seen(pose, source, ratios) {
    const widths = eyeWidths(source, ratios.source);
    const told = (by) => [
        ...[0, 1].map((column) => gap(by.keypoints, column, by) / (widths[column] * by.scale[0] * across(by))),
        lipRatio(by),
    ];
    const [now, then] = [told(pose), told(source)];
    return ratios.source.map((ratio, column) => ratio + now[column] - then[column]);
}

/** Widths (2,) of the eyes in units of the head, from a source pose and its ratios. */
function eyeWidths(source, ratios) {
    const { irises, eyeWidth, guess } = constants.motion.retargeting;
    const unit = source.scale[0] * across(source);
    const [x, y] = between(source.keypoints, ...irises);
    const usual = (eyeWidth * Math.hypot(x, y)) / unit;
    return [0, 1].map((column) => {
        const height = Math.max(gap(source.keypoints, column, source) / unit, 0);
        return (height + guess * usual) / (ratios[column] + guess);
    });
}

/** A direction (21,3) in the head's frame as movement in the picture. */
function moved(offsets, pose) {
    return scaled(multiply(offsets, pose.rotation), pose.scale[0]);
}

function along(keypoints, amount, towards) {
    return combined(keypoints, towards, (from, way) => from + amount * way);
}

/** Signed distance in the picture from upper to lower edge, along the head's own down. */
function gap(points, column, pose) {
    const [x, y] = between(points, ...constants.motion.retargeting.edges[column]);
    const length = Math.max(Math.hypot(pose.rotation[3], pose.rotation[4]), 1e-6);
    return (x * pose.rotation[3] + y * pose.rotation[4]) / length;
}

/** Length in the picture of a unit to the head's right. */
function across(pose) {
    return Math.max(Math.hypot(pose.rotation[0], pose.rotation[1]), 0.2);
}

function mouthWidth(points) {
    const [x, y] = between(points, ...constants.motion.retargeting.mouthCorners);
    return Math.max(Math.hypot(x, y), 1e-4);
}

/** How the mouth's width changes along a direction. */
function mouthWidthChange(points, towards) {
    const corners = constants.motion.retargeting.mouthCorners;
    const [x, y] = between(points, ...corners);
    const [moreX, moreY] = between(towards, ...corners);
    return (x * moreX + y * moreY) / mouthWidth(points);
}

/** x and y from one point to another. */
function between(points, from, to) {
    return [points[3 * to] - points[3 * from], points[3 * to + 1] - points[3 * from + 1]];
}
