/**
 * Tracks the face of a driving video through all frames, scene by scene (animation/driver/tracking.py). Only a few
 * numbers per frame are kept.
 *
 * @typedef {object} TrackedFrame
 * @property {number} scene its number
 * @property {?import("../types.js").SeenHead} head null if the frame does not show the face, as are the three below
 * @property {?Float32Array} ratios (3,) openings
 * @property {?Float32Array} scores (52,) blendshapes
 * @property {?Float32Array} cues (5,) what the mouth shows
 * @property {import("../types.js").CropWindow} window the gliding crop of the face
 *
 * @typedef {object} Track
 * @property {TrackedFrame[]} frames
 * @property {{reference: number, similar: number, crop: import("../types.js").Picture}[]} scenes `reference`: the
 * frame that head poses are relative to, `crop`: the same as M sees it, `similar`: the frame most like the portrait
 */

import { constants } from "../constants.js";
import { cut, drivingSquare } from "../face/crop.js";
import { mouthCues } from "../face/cues.js";
import { faceScores, openingRatios, similarityCost } from "../face/measures.js";
import { SceneTracker } from "../face/scenes.js";
import { seenHead } from "../motion/landmarks.js";
import { glidingWindows } from "./windows.js";

export class Trace {
    /**
     * @param {import("../face/analyzer.js").FaceAnalyzer} analyzer @param {number} fps
     * @param {Float32Array} wanted scores (53,) of the portrait, see `faceScores`
     */
    constructor(analyzer, fps, wanted) {
        Object.assign(this, { analyzer, fps, wanted });
        this.tracker = new SceneTracker(analyzer);
        /** @type {TrackedFrame[]} */
        this.frames = [];
        this.scenes = [];
        this.begin();
    }

    begin() {
        this.scene = { begins: this.frames.length, squares: [], rows: [], picture: null, similar: null, least: Infinity };
    }

    /** Process the next frame. @param {import("../types.js").Picture} picture */
    async next(picture) {
        const face = await this.tracker.next(picture);
        if (face && this.tracker.begins) {
            this.end();
            this.begin();
        }
        const frame = { scene: this.scenes.length, head: null, ratios: null, scores: null, cues: null, window: null };
        if (face) {
            const { landmarks } = face;
            frame.head = seenHead(landmarks);
            frame.ratios = openingRatios(landmarks);
            frame.scores = await this.analyzer.blendshapes(face);
            frame.cues = mouthCues(picture, landmarks);
            this.compare(faceScores(frame.scores, landmarks));
            this.scene.picture ??= picture;
            this.scene.rows.push(this.frames.length - this.scene.begins);
            this.scene.squares.push(drivingSquare(landmarks));
        }
        this.frames.push(frame);
    }

    /** Remember this frame if it is more like the portrait than earlier ones. */
    compare(scores) {
        const { scene } = this;
        if (scene.rows.length % constants.measures.scores.every === 0) {
            const cost = similarityCost(scores, this.wanted);
            if (cost < scene.least) {
                Object.assign(scene, { similar: this.frames.length, least: cost });
            }
        }
    }

    /** Finish the scene. */
    end() {
        const { begins, squares, rows, picture, similar } = this.scene;
        const frames = this.frames.slice(begins);
        const heads = rows.map((row) => frames[row].head);
        const windows = glidingWindows(heads, squares, rows, frames.length, this.fps);
        frames.forEach((frame, index) => (frame.window = windows[index]));
        const reference = begins + rows[0];
        this.scenes.push({ reference, similar, crop: cut(picture, this.frames[reference].window) });
    }

    /** The track of the video; null if no frame shows a face. @returns {?Track} */
    finish() {
        if (!this.scene.rows.length) {
            return null;
        }
        this.end();
        return { frames: this.frames, scenes: this.scenes };
    }
}
