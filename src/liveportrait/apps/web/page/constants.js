/**
 * Numbers that Python owns, as the manifest brings them: `constants.motion`, `constants.face`.
 *
 * Whoever starts a page or a worker sets them once; modules read them when they are called, not when they are loaded.
 */

export const constants = {};

/** @param {Record<string, unknown>} given the manifest's constants */
export function setConstants(given) {
    Object.assign(constants, given);
}
