/**
 * Several frames of a video rendered at once: by the worker that makes the video, and by others that only render. Each
 * has one thread and its own memory, so the host need not send the headers that shared memory requires. Frames keep
 * their order.
 */

import { Calls } from "./calls.js";

/** @typedef {import("../types.js").Tensor} Tensor */

const WAITING = 2; // frames of another worker: the next is there when one is done

export class Lanes {
    /** @param {import("../types.js").Network} own `render` in this worker @param {number} features of its inputs: what F gave */
    constructor(own, features) {
        Object.assign(this, { own, features });
        /** @type {Lane[]} those that are ready */
        this.others = [];
    }

    /**
     * Start other workers; each helps from when it is ready, and one that cannot start is done without.
     * @param {(threads: number) => void} onReady told how many there are, with this one
     */
    open(count, wish, onReady) {
        for (let index = 0; index < count; index++) {
            const lane = new Lane(this.features);
            lane.start(wish).then(
                () => onReady(1 + this.others.push(lane)),
                () => lane.end(),
            );
        }
        this.open = () => {}; // once
    }

    /** Frames that should be asked for before the first of them is taken. */
    get depth() {
        return 1 + WAITING * this.others.length;
    }

    /** Answers as the graph `render` does. @param {Tensor[]} tensors @returns {Promise<Tensor[]>} */
    render = (tensors) => {
        const other = this.others.find((lane) => lane.waiting < WAITING);
        return other ? other.render(tensors) : this.own(tensors);
    };
}

/** Another worker. */
class Lane {
    waiting = 0;
    portrait = null; // the numbers that the worker has of one

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
