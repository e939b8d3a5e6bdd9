/**
 * One face followed from frame to frame (face/tracker.py).
 *
 * @typedef {import("../types.js").Face} Face
 * @typedef {import("../types.js").Picture} Picture
 */

import { constants } from "../constants.js";
import { centre } from "./analyzer.js";
import { boxOf } from "./mesh.js";

/** Tracks one face: near its last place or where it was lost, otherwise the largest one. */
export class FaceTracker {
    /**
     * @param {import("./analyzer.js").FaceAnalyzer} analyzer
     * @param {number} [smallest] height of the smallest face to look for, as a fraction of the frame's longer side
     */
    constructor(analyzer, smallest = constants.face.tracker.smallest) {
        this.analyzer = analyzer;
        this.smallest = smallest;
        this.face = null;
        this.last = null;
    }

    /** The face in the next frame, or null. With `isNewScene` the whole frame is searched. @returns {Promise<?Face>} */
    async next(picture, isNewScene = false) {
        if (isNewScene) this.reset();
        return (await this.follow(picture)) ?? (await this.search(picture));
    }

    /** The face in the next frame if it is near its last position; one that has moved far is measured a second time. */
    async follow(picture) {
        const before = this.face;
        this.face = before && (await this.analyzer.track(picture, before));
        if (this.face && moved(before, this.face) > constants.face.tracker.far) {
            this.face = await this.analyzer.track(picture, this.face);
        }
        this.last = this.face ?? this.last;
        return this.face;
    }

    /** Search the entire frame: the face where it was last seen, otherwise the largest one. */
    async search(picture) {
        const smallest = Math.max(picture.width, picture.height) * this.smallest;
        const faces = await this.analyzer.detect(picture, smallest);
        const near = faces.filter((face) => this.last && !hasJumped(this.last, face));
        this.face = near[0] ?? faces[0] ?? null;
        this.last = this.face ?? this.last;
        return this.face;
    }

    /** Forget the face: the whole next frame is searched. */
    reset() {
        this.face = this.last = null;
    }
}

/** Whether a face has moved, or changed size, by more than the bounds. */
export function hasJumped(before, now, jump, growth) {
    const { largestJump, largestGrowth } = constants.face.tracker;
    const sides = [sideOf(before), sideOf(now)];
    const [from, to] = [centre(before), centre(now)];
    const away = Math.hypot(to[0] - from[0], to[1] - from[1]);
    const largest = Math.max(...sides);
    return away > (jump ?? largestJump) * largest || largest > (growth ?? largestGrowth) * Math.min(...sides);
}

/** The longer side of the face's box, px. */
export function sideOf(face) {
    const [x0, y0, x1, y1] = boxOf(face.landmarks);
    return Math.max(x1 - x0, y1 - y0);
}

/** The largest movement of an edge of the face's box, in sides of the box. */
function moved(before, now) {
    const [first, second] = [boxOf(before.landmarks), boxOf(now.landmarks)];
    return Math.max(...first.map((value, edge) => Math.abs(value - second[edge]))) / Math.max(sideOf(before), 1e-6);
}
