/**
 * Gliding paths of crop windows that follow a face (motion/gliding.py). A row is x and y in px and the logarithm of a
 * size in px. A lazy path stays while the face moves a little, and follows when it moves on.
 */

import { constants } from "../constants.js";
import { clamp } from "./geometry.js";

/** A path computed row by row: it lags, is limited to 0.7 Hz, and slowly returns to a face that stays off-centre. */
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

/**
 * A whole path: as lazy as `slack` says, then low-pass filtered at 0.7 Hz, both from both ends, so that it does not lag.
 * @param {number[][]} path rows @returns {number[][]}
 */
export function glided(path, fps, slack = constants.face.gliding.lazy) {
    const sizes = path.map((row) => Math.exp(row[2]));
    const columns = [0, 1, 2].map((column) => {
        const values = path.map((row) => row[column]);
        const allowed = sizes.map((size) => (column < 2 ? slack.place * size : slack.size));
        const forth = dragged(values, allowed);
        const back = dragged([...values].reverse(), [...allowed].reverse()).reverse();
        const lazy = forth.map((place, index) => (place + back[index]) / 2);
        const smooth = smoothPath(lazy, constants.face.gliding.cutoff / fps);
        const reach = (index) => slack.farthest * sizes[index];
        return column < 2 ? smooth.map((place, index) => clamp(place, values[index] - reach(index), values[index] + reach(index))) : smooth;
    });
    return path.map((_, index) => columns.map((column) => column[index]));
}

/** A series that stays where it is until the values are further from it than allowed. */
function dragged(values, allowed) {
    let place = values[0];
    return values.map((value, index) => (place = clamp(place, value - allowed[index], value + allowed[index])));
}

/**
 * A series low-pass filtered at `cutoff` cycles per frame (motion/smoothing.py): the x with (I + λ DᵀD) x = series, where
 * D takes second differences. The matrix has five diagonals, and so has its factorisation L D Lᵀ.
 */
export function smoothPath(series, cutoff) {
    const count = series.length;
    if (count < 3) {
        return [...series];
    }
    const weight = (2 * Math.sin(Math.PI * Math.min(cutoff, 0.5))) ** -4;
    const [main, first, second] = [1, 0, 0].map((value) => new Float64Array(count).fill(value));
    for (let row = 0; row < count - 2; row++) {
        [1, 4, 1].forEach((product, at) => (main[row + at] += weight * product));
        [-2, -2].forEach((product, at) => (first[row + at] += weight * product));
        second[row] += weight;
    }
    // Below the diagonal: `first` and `second` become the factors of the next two rows.
    for (let row = 0; row < count; row++) {
        const [near, far] = [first[row] / main[row], second[row] / main[row]];
        if (row + 1 < count) {
            main[row + 1] -= near * first[row];
            first[row + 1] -= near * second[row];
        }
        if (row + 2 < count) {
            main[row + 2] -= far * second[row];
        }
        [first[row], second[row]] = [near, far];
    }
    const result = Float64Array.from(series);
    for (let row = 0; row < count; row++) {
        result[row] -= (row > 0 ? first[row - 1] * result[row - 1] : 0) + (row > 1 ? second[row - 2] * result[row - 2] : 0);
    }
    for (let row = count - 1; row >= 0; row--) {
        result[row] /= main[row];
        result[row] -= (row + 1 < count ? first[row] * result[row + 1] : 0) + (row + 2 < count ? second[row] * result[row + 2] : 0);
    }
    return [...result];
}
