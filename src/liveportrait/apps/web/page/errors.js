/** Errors that a visitor can act on: one sentence each. */

export class UserError extends Error {
    name = "UserError";
}

/** What a visitor should be told of an error. @param {unknown} error */
export function told(error) {
    if (error instanceof Error && (error.name === "UserError" || error.constructor === Error)) {
        return error.message;
    }
    if (error instanceof RangeError && /memory|allocation/i.test(error.message)) {
        return "There is too little memory: close other tabs, or use a smaller photo.";
    }
    return `Something went wrong here: ${error instanceof Error ? error.message : error}`;
}
