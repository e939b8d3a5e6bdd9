/** A worker that only renders frames, for the worker that makes the video. */

import { answer, Transferred } from "./calls.js";
import { load } from "./loading.js";

let render = null;
let features = []; // of the portrait

answer({
    async start(wish) {
        render = (await load(["render"], wish)).networks.render;
    },

    /** Switch to another portrait. @param {import("../types.js").Tensor[]} given F's features of it */
    open(given) {
        features = given;
    },

    /** A frame's layers. @param {import("../types.js").Tensor[]} inputs poses and cues */
    async render(inputs) {
        const layers = await render([...features, ...inputs]);
        return new Transferred(layers, layers.map(({ data }) => data.buffer));
    },
});
