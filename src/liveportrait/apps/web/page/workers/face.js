/** The worker that looks for faces: in the photo, and in every frame of a driver. */

import { UserError } from "../errors.js";
import { FaceAnalyzer } from "../face/analyzer.js";
import { cut, drivingSquare, meanWindow } from "../face/crop.js";
import { VideoInput } from "../media/input.js";
import { pixelsOf, readPicture } from "../media/pictures.js";
import { answer, Moved } from "./calls.js";
import { load } from "./loading.js";

const NETWORKS = ["face_detector", "face_landmarks", "face_blendshapes"];

let analyzer = null;
let last = null; // the face in the last frame of a driver that shows one
let video = null;
let frames = null; // of the video

answer({
    async start({ port }) {
        const { networks } = await load(NETWORKS, { runtime: "wasm", threads: 1 });
        analyzer = new FaceAnalyzer(networks);
        answer({ follow, next, end }, port);
    },

    /** A photo and the largest face in it. */
    async open({ file, name }) {
        const picture = await readPicture(file, name);
        const [face] = await analyzer.detect(picture);
        if (!face) {
            throw new UserError(`No face was found in ${name}: use a photo that shows one from the front.`);
        }
        const scores = await analyzer.blendshapes(face);
        return new Moved({ picture, face, scores, mark: await markOf(file) }, [picture.data.buffer]);
    },

    /** What a camera's frame shows, as in a mirror. @param {VideoFrame} frame */
    async see({ frame, begins }) {
        if (begins) {
            last = null;
        }
        try {
            return sight(pixelsOf(frame, frame.displayWidth, frame.displayHeight, "The camera's picture", true));
        } finally {
            frame.close();
        }
    },
});

/** Begin with a driving video. @param {File} file */
async function follow(file) {
    last = null;
    video = await VideoInput.open(file);
    frames = video.frames();
}

/** What its next frame shows; null after the last one. */
async function next() {
    const { value, done } = await frames.next();
    return done ? null : sight(value);
}

/** Let go of it. */
async function end() {
    await frames?.return();
    video?.close();
    video = frames = null;
}

/** What a frame shows. The first face comes with its crop. @returns {Promise<import("../animation/follower.js").Sight>} */
async function sight(picture) {
    const begins = !last;
    const face = (last && (await analyzer.track(picture, last))) ?? (await analyzer.detect(picture))[0] ?? null;
    if (!face) {
        return { face, scores: null, cues: null, crop: null };
    }
    last = face;
    const scores = await analyzer.blendshapes(face);
    let crop = null;
    if (begins) {
        const window = meanWindow([drivingSquare(face.landmarks)]);
        crop = { picture: cut(picture, window), window };
    }
    return { face, scores, cues: null, crop };
}

/** What the watermark says of a photo: the first 16 bits of its checksum; 0 on hosts without https, where browsers have none. */
async function markOf(file) {
    const digest = await crypto.subtle?.digest("SHA-256", await file.arrayBuffer());
    return digest ? new DataView(digest).getUint16(0) : 0;
}
