/** A button over every face of a photo; the pressed one is the face that moves. */

/** @typedef {import("../types.js").Box} Box */

export class FaceButtons {
    /** @param {HTMLElement} box overlay of the picture @param {(face: number) => void} onChoice */
    constructor(box, onChoice) {
        Object.assign(this, { box, onChoice });
    }

    get count() {
        return this.box.children.length;
    }

    /**
     * Show the faces of another photo.
     * @param {Box[]} boxes in widths and heights of the picture, from the left @param {number} chosen
     */
    show(boxes, chosen) {
        this.box.replaceChildren(
            ...boxes.map(([left, top, right, bottom], face) => {
                const button = document.createElement("button");
                Object.assign(button, { type: "button", ariaLabel: `Face ${face + 1} of ${boxes.length} from the left` });
                Object.assign(button.style, {
                    left: percent((left + right) / 2),
                    top: percent((top + bottom) / 2),
                    width: percent(right - left),
                    height: percent(bottom - top),
                });
                button.addEventListener("click", () => this.onChoice(face));
                return button;
            }),
        );
        this.press(chosen);
    }

    /** Mark the face that moves. */
    press(chosen) {
        [...this.box.children].forEach((button, face) => (button.ariaPressed = String(face === chosen)));
    }
}

const percent = (share) => `${100 * share}%`;
