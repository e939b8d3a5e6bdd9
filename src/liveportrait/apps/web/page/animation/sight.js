/**
 * What a frame of a driver shows (animation/live.py, first half of `Live._measured`).
 *
 * @typedef {object} Sight
 * @property {?import("../types.js").Face} face null if none is visible
 * @property {?Float32Array} scores (52,) blendshapes
 * @property {?Float32Array} cues (5,) what the mouth shows
 * @property {?{picture: import("../types.js").Picture, window: import("../types.js").CropWindow}} crop only where
 * a reference is needed: for the first face, and after a cut
 */

import { cut, drivingSquare, meanWindow } from "../face/crop.js";
import { mouthCues } from "../face/cues.js";

/**
 * @param {import("../face/analyzer.js").FaceAnalyzer} analyzer @param {import("../face/scenes.js").SceneTracker} tracker
 * @param {import("../types.js").Picture} picture the next frame @returns {Promise<Sight>}
 */
export async function sightOf(analyzer, tracker, picture) {
    const isFirst = !tracker.seen;
    const face = await tracker.next(picture);
    if (!face) {
        return { face, scores: null, cues: null, crop: null };
    }
    let crop = null;
    if (isFirst || tracker.begins) {
        const window = meanWindow([drivingSquare(face.landmarks)]);
        crop = { picture: cut(picture, window), window };
    }
    return { face, scores: await analyzer.blendshapes(face), cues: mouthCues(picture, face.landmarks), crop };
}
