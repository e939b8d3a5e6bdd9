/**
 * The square around a face that the networks see (face/crop.py), and cutting it (animation/source/photo.py).
 *
 * @typedef {import("../types.js").CropWindow} CropWindow
 * @typedef {import("../types.js").Picture} Picture
 * @typedef {import("../types.js").Square} Square
 */

import { constants } from "../constants.js";
import { UserError } from "../errors.js";
import { invertAffine, resizeArea, resizeLinear, warpAffine } from "./resampling.js";

/** The square of landmarks (478·3) px: its position, size and roll. @returns {Square} */
export function faceSquare(landmarks) {
    const { outlineGrowth, shortestAxis, outlinePoints, eyes, mouthCorners } = constants.face.crop;
    const [right, left] = eyes.map((rows) => meanPoint(landmarks, rows));
    const mouth = meanPoint(landmarks, mouthCorners);
    let [downX, downY] = [mouth[0] - (right[0] + left[0]) / 2, mouth[1] - (right[1] + left[1]) / 2];
    const length = Math.hypot(downX, downY);
    [downX, downY] = length > shortestAxis ? [downX / length, downY / length] : [0, 1];
    const [rightX, rightY] = [downY, -downX];

    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    for (const row of outlinePoints) {
        const [x, y] = [landmarks[3 * row], landmarks[3 * row + 1]];
        const own = [x * rightX + y * rightY, x * downX + y * downY]; // along the face's own axes
        for (const axis of [0, 1]) {
            low[axis] = Math.min(low[axis], own[axis]);
            high[axis] = Math.max(high[axis], own[axis]);
        }
    }
    const side = Math.max(high[0] - low[0], high[1] - low[1]) * outlineGrowth;
    if (!(side > 0 && side < Infinity)) {
        throw new UserError("The face's landmarks have no extent, so no crop can be placed around it.");
    }
    const [across, along] = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    return {
        centre: [across * rightX + along * downX, across * rightY + along * downY],
        side,
        roll: Math.atan2(rightY, rightX),
    };
}

/** The square `scale` times as large, then moved right and down along its own axes by x and y of its side. */
export function framed(square, { scale, x, y }) {
    const side = square.side * scale;
    const [cos, sin] = [Math.cos(square.roll), Math.sin(square.roll)];
    const centre = [
        square.centre[0] + side * (x * cos - y * sin),
        square.centre[1] + side * (x * sin + y * cos),
    ];
    return { centre, side, roll: square.roll };
}

/** The square as a crop of `size` px. @returns {CropWindow} */
export function windowOf(square, size = constants.face.crop.size) {
    const zoom = size / square.side;
    const [cos, sin] = [zoom * Math.cos(square.roll), zoom * Math.sin(square.roll)];
    const [x, y] = square.centre;
    const matrix = [cos, sin, size / 2 - (cos * x + sin * y), -sin, cos, size / 2 - (cos * y - sin * x)];
    return { matrix: Float32Array.from(matrix), size };
}

/** The window of a source face, upright. `crop`: scale, x and y, see `framed`. @returns {CropWindow} */
export function sourceWindow(landmarks, crop = constants.face.crop.source) {
    return windowOf(framed(faceSquare(landmarks), crop));
}

/** The square around a driver's face in one frame. @returns {Square} */
export function drivingSquare(landmarks, crop = constants.face.crop.driving) {
    return framed(faceSquare(landmarks), crop);
}

/** The window of the mean of some squares, not rotated. @returns {CropWindow} */
export function meanWindow(squares, size = constants.face.crop.size) {
    if (squares.length === 0) throw new UserError("The driving video shows no face to crop around.");
    const mean = (value) => squares.reduce((sum, square) => sum + value(square), 0) / squares.length;
    const centre = [mean((square) => square.centre[0]), mean((square) => square.centre[1])];
    return windowOf({ centre, side: mean((square) => square.side), roll: 0 }, size);
}

/** The side of the window in the original picture, px. */
export function sideOf(window) {
    const [a, b, , c, d] = window.matrix;
    return window.size / Math.sqrt(Math.abs(a * d - b * c));
}

/** The same place as a crop of another size. @returns {CropWindow} */
function resizedWindow(window, size) {
    const ratio = size / window.size;
    const matrix = Float64Array.from(window.matrix, (value) => ratio * value);
    matrix[2] += (ratio - 1) / 2; // pixel centres have integer coordinates
    matrix[5] += (ratio - 1) / 2;
    return { matrix: Float32Array.from(matrix), size };
}

/** The window of a picture, bilinear; outside the picture black, or with `replicate` its edge. @returns {Picture} */
export function crop(picture, window, replicate = false) {
    return warpAffine(picture, invertAffine(window.matrix), window.size, window.size, replicate);
}

/** The window as size×size px, averaged where it shrinks, so that fine detail does not flicker. @returns {Picture} */
export function cropTo(picture, window, size, replicate = false) {
    const whole = Math.max(1, Math.trunc(sideOf(window) / size)); // source pixels per pixel of the crop, along each axis
    return toInput(crop(picture, resizedWindow(window, size * whole), replicate), size);
}

/** The crop as the networks take it. Its last step, from twice that side or more, averages. @returns {Picture} */
export function cut(picture, window) {
    const fine = Math.max(1, Math.trunc(sideOf(window) / window.size));
    return toInput(crop(picture, resizedWindow(window, window.size * fine), true), constants.face.crop.input);
}

/** A picture as size×size px: averaged if it shrinks, else bilinear. @returns {Picture} */
function toInput(picture, size = constants.face.crop.input) {
    if (picture.width === size && picture.height === size) return picture;
    return picture.height > size ? resizeArea(picture, size, size) : resizeLinear(picture, size, size);
}

/** A crop as M and F take it. @returns {import("../types.js").Tensor} (1,3,height,width) RGB in [0, 1] */
export function toTensor({ width, height, data }) {
    const count = width * height;
    const values = new Float32Array(3 * count);
    for (let pixel = 0; pixel < count; pixel++) {
        for (const channel of [0, 1, 2]) values[channel * count + pixel] = data[4 * pixel + channel] / 255;
    }
    return { dims: [1, 3, height, width], data: values };
}

function meanPoint(landmarks, rows) {
    const mean = (axis) => rows.reduce((sum, row) => sum + landmarks[3 * row + axis], 0) / rows.length;
    return [mean(0), mean(1)];
}
