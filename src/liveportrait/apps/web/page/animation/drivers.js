/** What moves a portrait for a while: a bundled motion, or a video that is followed meanwhile. */

import { UserError } from "../errors.js";
import { TemplateDriver } from "../motion/templates.js";

/** @typedef {import("../motion/templates.js").Driving} Driving */

/** A bundled motion, frame by frame. */
export class TemplatePlay extends TemplateDriver {
    /** @returns {AsyncGenerator<Driving>} */
    async *play() {
        for (let index = 0; index < this.length; index++) {
            yield this.at(index);
        }
    }
}

/** A video, followed one frame ahead of what is rendered. Frames before the first face take its motion. */
export class VideoPlay {
    /**
     * @param {import("../media/input.js").VideoInput} video @param {import("./follower.js").Follower} follower
     * @param {() => Promise<?import("./sight.js").Sight>} next what the next frame shows
     */
    constructor(video, follower, next) {
        const { name, rate, length } = video;
        Object.assign(this, { name, rate, length, follower, next });
    }

    get start() {
        return this.follower.start;
    }

    /** @returns {AsyncGenerator<Driving>} */
    async *play() {
        let waiting = 0; // frames before the first face
        let ahead = this.next();
        for (let sight = await ahead; sight; sight = await ahead) {
            ahead = this.next();
            ahead.catch(() => {}); // told when it is waited for
            const driving = await this.follower.push(sight);
            if (!driving) {
                waiting += 1;
                continue;
            }
            for (; waiting > 0; waiting--) {
                yield driving;
            }
            yield driving;
        }
        if (!this.start) {
            throw new UserError(`No face was found in ${this.name}: use a video that shows one.`);
        }
    }
}
