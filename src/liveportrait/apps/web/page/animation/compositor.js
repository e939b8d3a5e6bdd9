/** A rendered face laid into its photo, at the photo's own resolution (animation/compositor.py). */

import { composeInto, FaceLayers } from "../face/composition.js";
import { Place } from "../face/paste.js";
import { invertAffine } from "../face/resampling.js";

/** @typedef {import("../types.js").Picture} Picture @typedef {import("../types.js").Tensor} Tensor */

/** Lays the frames of one face into one photo. */
export class Compositor {
    /**
     * @param {Picture} photo
     * @param {import("../types.js").CropWindow} window of the face's crop
     * @param {?import("./watermark.js").Watermark} watermark goes into what was generated, and nowhere else
     */
    constructor(photo, window, watermark = null) {
        Object.assign(this, { photo, watermark });
        this.place = new Place(window, photo.width, photo.height);
        /** What changes from frame to frame. */
        this.box = this.place.box;
        this.frame = { ...photo, data: photo.data.slice() };
        /** @type {?FaceLayers} */
        this.layers = null;
    }

    /**
     * The photo with its face as rendered; the picture is good until the next call.
     * @param {Tensor[]} layers flow (1,S,S,2), keep (1,1,S,S) and paint (1,3,S,S), as the graph `render` gives them
     * @returns {Picture}
     */
    compose(layers) {
        const side = layers[1].dims.at(-1);
        if (this.layers?.side !== side) {
            this.layers = new FaceLayers(side);
            const fromCell = this.place.scaled(side);
            this.toCell = invertAffine(fromCell);
            this.linear = fromCell.map((value) => (value * side) / 2);
        }
        this.restore();
        this.layers.settle(layers, this.linear);
        composeInto(this.frame, this.photo, this.layers, this.box, this.toCell, this.place.mask);
        this.watermark?.embed(this.frame, this.box, this.place.mask);
        return this.frame;
    }

    /** The photo as it is, where the last frame changed it. */
    restore() {
        const { left, top, width, height } = this.box;
        for (let y = top; y < top + height; y++) {
            const start = 4 * (y * this.photo.width + left);
            this.frame.data.set(this.photo.data.subarray(start, start + 4 * width), start);
        }
    }
}
