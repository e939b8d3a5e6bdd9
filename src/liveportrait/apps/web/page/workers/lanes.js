/**
 * Renders several frames in parallel: in the worker that makes the video, and in others that only render. Each has one
 * thread and its own memory, so the host need not send the headers that shared memory requires.
 */

import { Calls } from "./calls.js";

/** @typedef {import("../types.js").Tensor} Tensor */

const QUEUED = 2; // frames of a video per other worker, so that none has to wait for its next frame
const MIN_LIVE = 2; // other workers for a camera, if more than one thread is allowed

export class Lanes {
    isLive = false; // whether a camera drives the portrait: its frames must not queue

    /**
     * @param {import("../types.js").Network} own `render` in this worker
     * @param {number} features how many of its inputs are F's features
     * @param {number} threads that may render in parallel
     */
    constructor(own, features, threads) {
        Object.assign(this, { own, features, threads, wanted: 0 });
        /** @type {Lane[]} those that are ready */
        this.others = [];
    }

    /**
     * Start the missing workers for a video or a camera. Each renders once it is ready; one that cannot start is left
     * out.
     * @param {object} wish see `load` @param {(threads: number) => void} onReady receives how many there are, this one included
     */
    open(wish, onReady = () => {}) {
        const count = this.isLive && this.threads > 1 ? Math.max(this.threads - 1, MIN_LIVE) : this.threads - 1;
        for (; this.wanted < count; this.wanted++) {
            const lane = new Lane(this.features);
            lane.start(wish).then(
                () => onReady(1 + this.others.push(lane)),
                () => lane.end(),
            );
        }
    }

    /** The other workers in use. */
    get helpers() {
        return this.isLive ? this.others : this.others.slice(0, this.threads - 1);
    }

    /**
     * How many frames to request in advance. A camera's frames are rendered by the other workers alone, if there are any:
     * this worker must be free to show them.
     */
    get depth() {
        const { length } = this.helpers;
        return this.isLive ? Math.max(length, 1) : 1 + QUEUED * length;
    }

    /** Equivalent to the graph `render`. @param {Tensor[]} tensors @returns {Promise<Tensor[]>} */
    render = (tensors) => {
        const most = this.isLive ? 1 : QUEUED;
        const other = this.helpers.find((lane) => lane.waiting < most);
        return other ? other.render(tensors) : this.own(tensors);
    };
}

/** Another worker. */
class Lane {
    waiting = 0;
    portrait = null; // the image features that the worker has

    constructor(features) {
        this.features = features;
        this.worker = new Worker(new URL("renderer.js", import.meta.url), { type: "module", name: "renderer" });
        this.calls = new Calls(this.worker);
    }

    start(wish) {
        return this.calls.call("start", wish);
    }

    async render(tensors) {
        this.waiting += 1;
        try {
            const given = tensors.slice(0, this.features);
            if (this.portrait !== given[0].data) {
                this.portrait = given[0].data;
                await this.calls.call("open", given);
            }
            return await this.calls.call("render", tensors.slice(this.features));
        } finally {
            this.waiting -= 1;
        }
    }

    end() {
        this.worker.terminate();
    }
}
