/**
 * The openings to request of keypoints so that the picture shows a given opening (motion/response.py).
 *
 * Near the source's own opening nothing is corrected.
 */

import { constants } from "../constants.js";
import { clamp } from "./geometry.js";

/** The ratio to request of the lips so that they show an opening; `own` is the source's, `now` that of the motion. */
export function askedOfLips(opening, own, now) {
    const { wide, widest } = constants.motion.response;
    const alone = Math.min(opening, widest) ** 2 - Math.min(clamp(now, 0, widest), opening) ** 2;
    const correction = wide * Math.max(alone, 0);
    return opening + moved(opening, own) * correction + lagOfLips(opening, own);
}

/** By how much lips that are closed in the source fall short of an opening. */
export function lagOfLips(opening, own) {
    const { lag, parted, fullFrom, closed, open } = constants.motion.response;
    const more = clamp((opening - own) / fullFrom, 0, 1);
    const shut = clamp((open - own) / (open - closed), 0, 1);
    return lag * Math.exp(-opening / parted) * more * shut;
}

/** The ratio to request of a lid's network so that it shows an opening; `own` is the source's. */
export function askedOfEye(opening, own) {
    const { eyes, eyesAsked } = constants.motion.response;
    const within = clamp(opening, 0, eyes.at(-1));
    let piece = 0;
    while (piece < eyes.length - 2 && within >= eyes[piece + 1]) {
        piece++;
    }
    const share = (within - eyes[piece]) / (eyes[piece + 1] - eyes[piece]);
    const asked = eyesAsked[piece] + share * (eyesAsked[piece + 1] - eyesAsked[piece]);
    return opening + moved(opening, own) * (asked - within);
}

/** Weight of a correction, by how far the opening is from the source's own. */
function moved(opening, own) {
    return clamp(Math.abs(opening - own) / constants.motion.response.near, 0, 1);
}
