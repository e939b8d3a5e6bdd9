/**
 * Types shared by the page's modules, without code. Names and meanings are those of the Python package.
 *
 * @typedef {object} Picture
 * @property {number} width px
 * @property {number} height px
 * @property {Uint8ClampedArray} data (height·width·4) RGBA, as in ImageData; opaque
 *
 * @typedef {object} Tensor
 * @property {number[]} dims
 * @property {Float32Array} data
 *
 * @typedef {(inputs: Tensor[]) => Promise<Tensor[]>} Network inputs and outputs are in the manifest's order
 *
 * @typedef {Object<string, Network>} Networks by the names of their graphs; the runtime is injected
 *
 * @typedef {object} Face one face in one picture
 * @property {Float32Array} landmarks (478·3) px: x right, y down, z away from the camera in the same scale
 * @property {number} score 0..1: the landmark network's confidence that this is a face
 *
 * @typedef {[number, number, number, number]} Box x0, y0, x1, y1, px
 *
 * @typedef {object} CropWindow the position of a square crop in the original picture
 * @property {Float32Array} matrix (2·3) px of the original -> px of the crop; pixel centres have integer coordinates
 * @property {number} size side of the crop, px
 *
 * @typedef {object} Square a square in the original picture
 * @property {[number, number]} centre px
 * @property {number} side px
 * @property {number} roll radians, positive clockwise on the screen
 *
 * @typedef {object} HeadPose landmarks ≈ scale · canonical @ rotation + translation, row vectors
 * @property {Float64Array} rotation (3·3) orthonormal, determinant 1
 * @property {number} scale px of the picture per centimetre
 * @property {Float64Array} translation (3) px: the middle of the head
 *
 * @typedef {object} Motion one frame's motion, as `networks.interface.Motion`
 * @property {Float32Array} rotation (3·3) for row vectors
 * @property {Float32Array} translation (3)
 * @property {Float32Array} scale (1)
 * @property {Float32Array} canonical (21·3) identity
 * @property {Float32Array} expression (21·3)
 *
 * @typedef {object} Pose posed keypoints, as `networks.interface.Pose`
 * @property {Float32Array} keypoints (21·3)
 * @property {Float32Array} rotation (3·3)
 * @property {Float32Array} translation (3)
 * @property {Float32Array} scale (1)
 * @property {Float32Array} pin (1)
 *
 * @typedef {object} SeenKeypoints the tracked keypoints of one frame
 * @property {Float32Array} points (21·2) px of the frame
 * @property {Float32Array} rotation (3·3) head pose, row vectors
 *
 * @typedef {object} SeenHead the tracked head of one frame
 * @property {SeenKeypoints} keypoints
 * @property {number} scale px of the frame per centimetre
 * @property {Float32Array} centre (2) px of the frame: the middle of the head's rigid points
 */

export {};
