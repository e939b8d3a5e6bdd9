/** The worker that looks for faces: in the photo, and in every frame of a driver. */

import { sightOf } from "../animation/sight.js";
import { UserError } from "../errors.js";
import { FaceAnalyzer } from "../face/analyzer.js";
import { outlineOf } from "../face/outlines.js";
import { SceneTracker } from "../face/scenes.js";
import { VideoInput } from "../media/input.js";
import { pixelsOf, readPicture } from "../media/pictures.js";
import { answer, Moved } from "./calls.js";
import { load } from "./loading.js";

const NETWORKS = ["face_detector", "face_landmarks", "face_blendshapes"];

let analyzer = null;
let tracker = null; // of the driver's face
let video = null;
let frames = null; // of the video

answer({
    async start({ port, ...wish }) {
        const { networks } = await load(NETWORKS, { ...wish, small: true });
        analyzer = new FaceAnalyzer(networks);
        answer({ follow, next, end }, port);
    },

    /** A photo, the largest face in it, and the outlines of the others. */
    async open({ file, name }) {
        const picture = await readPicture(file, name);
        const [face, ...others] = await analyzer.detect(picture);
        if (!face) {
            throw new UserError(`No face was found in ${name}: use a photo that shows one from the front.`);
        }
        const scores = await analyzer.blendshapes(face);
        const outlines = others.map(outlineOf);
        return new Moved({ picture, face, scores, outlines, mark: await markOf(file) }, [picture.data.buffer]);
    },

    /** What a camera's frame shows, as in a mirror. @param {VideoFrame} frame */
    async see({ frame, begins }) {
        if (begins) {
            tracker = new SceneTracker(analyzer);
        }
        try {
            return sightOf(analyzer, tracker, pixelsOf(frame, frame.displayWidth, frame.displayHeight, "The camera's picture", true));
        } finally {
            frame.close();
        }
    },
});

/** Begin with a driving video. @param {File} file */
async function follow(file) {
    tracker = new SceneTracker(analyzer);
    video = await VideoInput.open(file);
    frames = video.frames();
}

/** What its next frame shows; null after the last one. */
async function next() {
    const { value, done } = await frames.next();
    return done ? null : sightOf(analyzer, tracker, value);
}

/** Let go of it. */
async function end() {
    await frames?.return();
    video?.close();
    video = frames = null;
}

/** What the watermark says of a photo: the first 16 bits of its checksum; 0 on hosts without https, where browsers have none. */
async function markOf(file) {
    const digest = await crypto.subtle?.digest("SHA-256", await file.arrayBuffer());
    return digest ? new DataView(digest).getUint16(0) : 0;
}
