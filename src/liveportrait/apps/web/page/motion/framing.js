/** Limits the position and size of a driver's head to how far a head moves on its body (motion/framing.py). */

import { constants } from "../constants.js";
import { combined, difference, multiply, scaled, sum } from "./geometry.js";

/** A value ≥ 0 softly limited to a bound: unchanged up to a part of it. */
export function bounded(value, bound) {
    const free = constants.motion.framing.free * bound;
    const rest = bound - free;
    return value <= free ? value : free + rest * Math.tanh((value - free) / rest);
}

/** A change of size, softly limited in both directions. */
function boundedGrowth(growth) {
    const { smallest, largest } = constants.motion.framing;
    const change = Math.log(growth);
    const bound = change < 0 ? -Math.log(smallest) : Math.log(largest);
    return Math.exp(bounded(Math.abs(change), bound) * Math.sign(change));
}

/**
 * A driver's motion with position and size bounded relative to `reference`, the frame of the same scene that they start
 * from; `home` has the position and size that they start at; `cropScale`: the crop's side over the face's. The position
 * is that of the neck, so that turning the head is not restricted.
 */
export function steadied(motion, reference, home, cropScale = constants.motion.framing.drivingScale) {
    const { neck, unit, farthest, drivingScale } = constants.motion.framing;
    const lever = scaled(neck, (unit * drivingScale) / cropScale);
    const growth = motion.scale[0] / reference.scale[0];
    const turned = multiply(lever, motion.rotation);
    const swing = combined(turned, multiply(lever, reference.rotation), (now, then) => growth * now - then);
    const moved = sum(difference(motion.translation, reference.translation), swing);
    const way = Math.hypot(moved[0], moved[1]);
    const share = bounded(way, farthest) / Math.max(way, 1e-9);
    const grown = boundedGrowth(growth);
    const place = sum(sum(home.translation, multiply(lever, home.rotation)), scaled(moved, share));
    const translation = combined(place, turned, (at, from) => at - grown * from);
    translation[2] = motion.translation[2]; // depth is not bounded
    return { ...motion, translation, scale: Float32Array.of(home.scale[0] * grown) };
}
