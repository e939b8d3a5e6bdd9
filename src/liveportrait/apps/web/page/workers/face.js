/** The worker that finds faces: in the photo and in every frame of a driver. */

import { sightOf } from "../animation/sight.js";
import { Trace } from "../animation/tracking.js";
import { UserError } from "../errors.js";
import { centre, FaceAnalyzer } from "../face/analyzer.js";
import { faceScores } from "../face/measures.js";
import { boxOf } from "../face/mesh.js";
import { outlineOf } from "../face/outlines.js";
import { SceneTracker } from "../face/scenes.js";
import { mirrored, pixelsOfFrame } from "../media/frames.js";
import { VideoInput } from "../media/input.js";
import { readPicture } from "../media/pictures.js";
import { answer, tell, Transferred } from "./calls.js";
import { load } from "./loading.js";

const NETWORKS = ["face_detector", "face_landmarks", "face_blendshapes"];

let analyzer = null;
let faces = []; // of the photo, from the left
let tracker = null; // of the camera's face
let wanted = null; // scores of the chosen face, which a driver's are compared with
let stopped = false; // whether tracking was cancelled

answer({
    async start({ port, ...wish }) {
        const { networks } = await load(NETWORKS, { ...wish, small: true });
        analyzer = new FaceAnalyzer(networks);
        answer({ track, stop }, port);
    },

    /** A photo, its largest face, and the boxes of all faces, from the left. */
    async open({ file, name }) {
        const picture = await readPicture(file, name);
        const found = await analyzer.detect(picture);
        if (!found.length) {
            throw new UserError(`No face was found in ${name}: use a photo that shows one from the front.`);
        }
        faces = [...found].sort((a, b) => centre(a)[0] - centre(b)[0]);
        const chosen = faces.indexOf(found[0]);
        const sides = [picture.width, picture.height, picture.width, picture.height];
        const boxes = faces.map(({ landmarks }) => boxOf(landmarks).map((place, edge) => place / sides[edge]));
        const seen = { picture, mark: await markOf(file), ...(await choose(chosen)) };
        return new Transferred({ seen, boxes, chosen }, [picture.data.buffer]);
    },

    choose,

    /** What a camera's frame shows, mirrored. @param {VideoFrame} frame */
    async see({ frame, begins }) {
        if (begins) {
            tracker = new SceneTracker(analyzer);
        }
        const picture = await pixelsOfFrame(frame, "The camera's picture").finally(() => frame.close());
        return sightOf(analyzer, tracker, mirrored(picture));
    },
});

/** One of the photo's faces, and the outlines of the others. @param {number} number from the left, 0 is the leftmost */
async function choose(number) {
    const face = faces[number];
    const scores = await analyzer.blendshapes(face);
    wanted = faceScores(scores, face.landmarks);
    return { face, scores, outlines: faces.filter((other) => other !== face).map(outlineOf) };
}

/**
 * Track the face of a driving video from beginning to end.
 * @param {File} file @returns {Promise<import("../animation/tracking.js").Track>}
 */
async function track(file) {
    const video = await VideoInput.open(file);
    stopped = false;
    try {
        const trace = new Trace(analyzer, video.rate[0] / video.rate[1], wanted);
        for await (const picture of video.frames()) {
            if (stopped) {
                throw new DOMException("Stopped.", "AbortError");
            }
            await trace.next(picture);
            tell({ kind: "tracking", frame: trace.frames.length, frames: video.length });
        }
        const tracked = trace.finish();
        if (!tracked) {
            throw new UserError(`No face was found in ${video.name}: use a video that shows one.`);
        }
        return tracked;
    } finally {
        video.close();
    }
}

/** Cancel tracking a video. */
function stop() {
    stopped = true;
}

/** The code of a photo in the watermark: the first 16 bits of its SHA-256; 0 without https, where browsers do not compute it. */
async function markOf(file) {
    const digest = await crypto.subtle?.digest("SHA-256", await file.arrayBuffer());
    return digest ? new DataView(digest).getUint16(0) : 0;
}
