/**
 * Paths that glide, of windows that follow a face (motion/gliding.py). A row is x and y in px and the logarithm of a
 * size in px; a path that is lazy stays while the face moves a little, and goes along where it moves on.
 */

import { constants } from "../constants.js";
import { clamp } from "./geometry.js";

/** A path that comes in row by row: it follows late, slower than 0.7 Hz, and goes back to a face that stays aside. */
export class LiveGlide {
    /** @param {number} fps */
    constructor(fps, slack = constants.face.gliding.lazy) {
        const { cutoff, goesBack } = constants.face.gliding;
        this.slack = slack;
        this.smoothing = 1 - Math.exp((-2 * Math.PI * cutoff) / fps);
        this.goesBack = 1 - Math.exp(-1 / (goesBack * fps));
        this.goal = null;
        this.path = null;
    }

    /** The path at the next row: x, y and the logarithm of the size. */
    next(row) {
        this.goal ??= [...row];
        this.path ??= [...row];
        const size = Math.exp(row[2]);
        const slack = [this.slack.place * size, this.slack.place * size, this.slack.size];
        this.goal = this.goal.map((goal, column) => {
            const nearer = goal + this.goesBack * (row[column] - goal);
            return clamp(nearer, row[column] - slack[column], row[column] + slack[column]);
        });
        const reach = this.slack.farthest * size;
        this.path = this.path.map((place, column) => {
            const moved = place + this.smoothing * (this.goal[column] - place);
            return column < 2 ? clamp(moved, row[column] - reach, row[column] + reach) : moved;
        });
        return [...this.path];
    }
}
