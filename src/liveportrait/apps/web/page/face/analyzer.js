/**
 * Face analysis: detection, 478 landmarks, tracking, blendshapes (face/analyzer.py).
 *
 * @typedef {import("../types.js").Box} Box
 * @typedef {import("../types.js").Face} Face
 * @typedef {import("../types.js").Picture} Picture
 */

import { constants } from "../constants.js";
import { Detector } from "./detector.js";
import { boxOf, Mesh, regionAround, regionOfLandmarks } from "./mesh.js";

/** Finds and measures faces. No state is kept between calls. */
export class FaceAnalyzer {
    /** @param {import("../types.js").Networks} networks face_detector, face_landmarks, face_blendshapes */
    constructor(networks) {
        this.detector = new Detector(networks.face_detector);
        this.mesh = new Mesh(networks.face_landmarks);
        this.scorer = networks.face_blendshapes;
    }

    /**
     * All faces of a picture, largest first.
     * @param {number} [smallest] height in px of the smallest face to look for
     * @returns {Promise<Face[]>}
     */
    async detect(picture, smallest = smallestFace(picture)) {
        const faces = [];
        const found = await this.detector.detect(picture, smallest);
        for (const { box, rightEye, leftEye } of found.sort((a, b) => b.score - a.score)) {
            if (faces.some((face) => covers(face, box))) continue;
            const first = await this.measured(picture, regionAround(box, rightEye, leftEye));
            // Measure again in the region of its landmarks, as tracking does.
            const face = first && (await this.track(picture, first));
            if (face) faces.push(face);
        }
        const largestFirst = faces.sort((a, b) => area(b) - area(a));
        return largestFirst.filter(
            (face, rank) => !largestFirst.slice(0, rank).some((larger) => centreWithin(face, larger)),
        );
    }

    /** The face in a given box x0, y0, x1, y1 px; null if there is none. */
    async within(picture, box) {
        const face = await this.measured(picture, regionAround(box, [0, 0], [1, 0]));
        return face && this.track(picture, face);
    }

    /** The face in the next frame of a video, searched for where `previous` was; null when lost. */
    async track(picture, previous) {
        return this.measured(picture, regionOfLandmarks(previous.landmarks));
    }

    /** MediaPipe's 52 blendshape scores in 0..1; 0 is `_neutral`, 1 `browDownLeft`, and so on. */
    async blendshapes(face) {
        const rows = constants.face.analyzer.blendshapeLandmarks;
        const points = new Float32Array(2 * rows.length);
        rows.forEach((row, index) => points.set(face.landmarks.subarray(3 * row, 3 * row + 2), 2 * index));
        const [scores] = await this.scorer([{ dims: [1, rows.length, 2], data: points }]);
        return scores.data;
    }

    async measured(picture, region) {
        if (!(region.side >= 1)) return null;
        const face = await this.mesh.measure(picture, region);
        return face.score >= constants.face.analyzer.presence ? face : null;
    }
}

/** The height in px of the smallest face that `detect` looks for by default. */
function smallestFace(picture) {
    const { smallest, smallestPx } = constants.face.analyzer;
    return Math.max(Math.max(picture.width, picture.height) * smallest, smallestPx);
}

/** The middle of the face's box, px. */
export function centre(face) {
    const [x0, y0, x1, y1] = boxOf(face.landmarks);
    return [(x0 + x1) / 2, (y0 + y1) / 2];
}

/** Whether the face's centre is inside the other's box: then they count as the same face. */
function centreWithin(face, other) {
    return covers(other, boxOf(face.landmarks));
}

function area(face) {
    const [x0, y0, x1, y1] = boxOf(face.landmarks);
    return (x1 - x0) * (y1 - y0);
}

function covers(face, box) {
    const [x0, y0, x1, y1] = boxOf(face.landmarks);
    const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    return x0 < x && x < x1 && y0 < y && y < y1;
}
