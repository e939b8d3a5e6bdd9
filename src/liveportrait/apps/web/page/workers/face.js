/** The worker that looks for faces: in the photo, and in every frame of a driver. */

import { FaceAnalyzer } from "../face/analyzer.js";
import { UserError } from "../errors.js";
import { readPicture } from "../media/pictures.js";
import { answer, Moved } from "./calls.js";
import { load } from "./loading.js";

const NETWORKS = ["face_detector", "face_landmarks", "face_blendshapes"];

let analyzer = null;

answer({
    async start() {
        const { networks } = await load(NETWORKS, { runtime: "wasm", threads: 1 });
        analyzer = new FaceAnalyzer(networks);
    },

    /** A photo and the largest face in it. */
    async open({ file, name }) {
        const picture = await readPicture(file, name);
        const [face] = await analyzer.detect(picture);
        if (!face) {
            throw new UserError(`No face was found in ${name}: use a picture that shows one from the front.`);
        }
        const scores = await analyzer.blendshapes(face);
        return new Moved({ picture, face, scores }, [picture.data.buffer]);
    },
});
