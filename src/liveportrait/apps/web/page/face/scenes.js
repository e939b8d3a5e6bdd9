/**
 * Tracks one face through a video with cuts (face/scenes.py). The page cannot tell people apart: a stranger who appears
 * where the face was lost is followed at once.
 *
 * @typedef {import("../types.js").Face} Face
 * @typedef {import("../types.js").Picture} Picture
 */

import { constants } from "../constants.js";
import { centre } from "./analyzer.js";
import { CutFinder, regionChange } from "./cuts.js";
import { cutOut } from "./resampling.js";
import { FaceTracker, hasJumped, sideOf } from "./tracker.js";

/** Tracks one face; `begins` says whether the last frame's face starts a new scene. */
export class SceneTracker {
    /** @param {import("./analyzer.js").FaceAnalyzer} analyzer */
    constructor(analyzer) {
        this.tracker = new FaceTracker(analyzer);
        this.reset();
    }

    /** The face in the next frame, or null. @param {Picture} picture @returns {Promise<?Face>} */
    async next(picture) {
        this.wasCut = this.cuts.next(picture) || this.wasCut;
        // Tracking across a cut would place the face between its old and new positions.
        let face = this.wasCut ? await this.tracker.search(picture) : await this.tracker.next(picture);
        if (this.wasCut && face && !this.continues(picture, face)) {
            face = await this.tracker.next(picture, true);
        }
        this.begins = face !== null && this.seen !== null && !this.continues(picture, face);
        if (face) {
            this.seen = { picture, face };
            this.wasCut = false;
        }
        return face;
    }

    /** Forget everything: the next face is a new one. */
    reset() {
        this.tracker.reset();
        this.cuts = new CutFinder();
        this.seen = null; // the last frame that showed the face
        this.wasCut = false; // since then
        this.begins = false;
    }

    continues(picture, face) {
        if (!this.seen) return false;
        if (this.wasCut) return goesOn(this.seen.picture, this.seen.face, picture, face);
        return !hasJumped(this.seen.face, face);
    }
}

/** Whether a face continues the one before: it has not jumped, and its surroundings look alike. */
function goesOn(before, faceBefore, now, face) {
    const { smallerJump, smallerGrowth } = constants.face.scenes;
    if (hasJumped(faceBefore, face, smallerJump, smallerGrowth)) return false;
    const change = regionChange(regionOf(before, faceBefore), regionOf(now, face));
    return !new CutFinder(constants.face.cuts.faceRegion).isCut(change);
}

/** The surroundings of a face, clipped to the picture; at least one pixel. */
function regionOf(picture, face) {
    const half = (constants.face.scenes.region * sideOf(face)) / 2;
    const [x, y] = centre(face);
    const [x0, x1] = span(x, half, picture.width);
    const [y0, y1] = span(y, half, picture.height);
    return cutOut(picture, x0, y0, x1, y1);
}

function span(middle, half, length) {
    const low = Math.trunc(Math.min(Math.max(middle - half, 0), length - 1));
    return [low, Math.trunc(Math.min(Math.max(middle + half, low + 1), length))];
}
