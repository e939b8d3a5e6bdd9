/** The worker that looks for faces: in the photo, and in every frame of a driver. */

import { sightOf } from "../animation/sight.js";
import { Trace } from "../animation/tracking.js";
import { UserError } from "../errors.js";
import { FaceAnalyzer } from "../face/analyzer.js";
import { faceScores } from "../face/measures.js";
import { outlineOf } from "../face/outlines.js";
import { SceneTracker } from "../face/scenes.js";
import { mirrored, pixelsOfFrame } from "../media/frames.js";
import { VideoInput } from "../media/input.js";
import { readPicture } from "../media/pictures.js";
import { answer, Moved, tell } from "./calls.js";
import { load } from "./loading.js";

const NETWORKS = ["face_detector", "face_landmarks", "face_blendshapes"];

let analyzer = null;
let tracker = null; // of the face that a camera shows
let wanted = null; // scores of the portrait, which a driver's are compared with
let stopped = false; // following a video

answer({
    async start({ port, ...wish }) {
        const { networks } = await load(NETWORKS, { ...wish, small: true });
        analyzer = new FaceAnalyzer(networks);
        answer({ track, stop }, port);
    },

    /** A photo, the largest face in it, and the outlines of the others. */
    async open({ file, name }) {
        const picture = await readPicture(file, name);
        const [face, ...others] = await analyzer.detect(picture);
        if (!face) {
            throw new UserError(`No face was found in ${name}: use a photo that shows one from the front.`);
        }
        const scores = await analyzer.blendshapes(face);
        wanted = faceScores(scores, face.landmarks);
        const outlines = others.map(outlineOf);
        return new Moved({ picture, face, scores, outlines, mark: await markOf(file) }, [picture.data.buffer]);
    },

    /** What a camera's frame shows, as in a mirror. @param {VideoFrame} frame */
    async see({ frame, begins }) {
        if (begins) {
            tracker = new SceneTracker(analyzer);
        }
        const picture = await pixelsOfFrame(frame, "The camera's picture").finally(() => frame.close());
        return sightOf(analyzer, tracker, mirrored(picture));
    },
});

/** The face of a driving video, followed through all of it. @param {File} file @returns {Promise<import("../animation/tracking.js").Track>} */
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

/** Stop following a video. */
function stop() {
    stopped = true;
}

/** What the watermark says of a photo: the first 16 bits of its checksum; 0 on hosts without https, where browsers have none. */
async function markOf(file) {
    const digest = await crypto.subtle?.digest("SHA-256", await file.arrayBuffer());
    return digest ? new DataView(digest).getUint16(0) : 0;
}
