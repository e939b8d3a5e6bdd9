/** A worker that only renders frames, for the worker that makes the video. */

import { answer, Moved } from "./calls.js";
import { load } from "./loading.js";

let render = null;
let features = []; // of the portrait

answer({
    async start(wish) {
        render = (await load(["render"], wish)).networks.render;
    },

    /** Take another portrait. @param {import("../types.js").Tensor[]} given F's features of it */
    open(given) {
        features = given;
    },

    /** A frame's layers. @param {import("../types.js").Tensor[]} told poses and cues */
    async render(told) {
        const layers = await render([...features, ...told]);
        return new Moved(layers, layers.map(({ data }) => data.buffer));
    },
});
