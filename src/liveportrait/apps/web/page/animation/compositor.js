/** Composites a rendered face into its photo at the photo's own resolution (animation/compositor.py). */

import { constants } from "../constants.js";
import { composeInto, FaceLayers } from "../face/composition.js";
import { cropTo, sideOf } from "../face/crop.js";
import { outlineInCrop, reaches } from "../face/outlines.js";
import { coarseMask, Place, yielding } from "../face/paste.js";
import { invertAffine } from "../face/resampling.js";

/** @typedef {import("../types.js").Picture} Picture @typedef {import("../types.js").Tensor} Tensor */
/** @typedef {import("../types.js").CropWindow} CropWindow */

/** Composites the frames of one face into one photo. */
export class Compositor {
    /**
     * @param {Picture} photo @param {CropWindow} window of the face's crop
     * @param {?{own: Float32Array, others: Float32Array[]}} outlines (36·3) px of the face, and of the photo's other faces,
     * over which it is not pasted
     */
    constructor(photo, window, outlines = null) {
        this.photo = photo;
        this.place = new Place(window, photo.width, photo.height);
        /** The part that changes from frame to frame. */
        this.box = this.place.box;
        this.frame = { ...photo, data: photo.data.slice() };
        /** @type {?FaceLayers} */
        this.layers = null;
        const others = (outlines?.others ?? []).map((other) => outlineInCrop(other, window)).filter(reaches);
        if (others.length) {
            const mask = yielding(coarseMask(), outlineInCrop(outlines.own, window), others);
            this.place.cover(mask, constants.motion.paste.maskSide);
        }
    }

    /** A compositor for the face's crop alone, at the photo's resolution. */
    static ofCrop(photo, window) {
        const finest = Math.max(Math.round(sideOf(window)), 2 * constants.motion.composition.halfSide);
        const size = 2 * Math.floor(finest / 2);
        const whole = { matrix: Float32Array.of(1, 0, 0, 0, 1, 0), size };
        const made = new Compositor(cropTo(photo, window, size, true), whole);
        made.place.mask.fill(255);
        return made;
    }

    /**
     * The photo with its face as rendered; the picture is valid until the next call.
     * @param {Tensor[]} layers flow (1,S,S,2), keep (1,1,S,S) and paint (1,3,S,S), as the graph `render` gives them
     * @param {?import("./watermark.js").Watermark} watermark embedded only where the picture was generated
     * @returns {Picture}
     */
    compose(layers, watermark = null) {
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
        watermark?.embed(this.frame, this.box, this.place.mask);
        return this.frame;
    }

    /** Restore the photo where the last frame changed it. */
    restore() {
        const { left, top, width, height } = this.box;
        for (let y = top; y < top + height; y++) {
            const start = 4 * (y * this.photo.width + left);
            this.frame.data.set(this.photo.data.subarray(start, start + 4 * width), start);
        }
    }
}
