/** The form: motions to choose from, options, sliders. */

const OWN = { video: "Own video…", live: "Camera, live" };
const FIRST = "talk"; // the motion selected at first
const SHOWN = ["smile", "eyebrow", "wink", "eye_opening", "lip_opening", "gaze_x", "gaze_y", "yaw", "pitch", "roll"];
const STEPS = 100; // of a slider

/** A radio button for each motion. @param {HTMLElement} box @param {string[]} motions names of the bundled ones */
export function motionChoices(box, motions) {
    const choices = [...motions.map((name) => [name, spelled(name)]), ...Object.entries(OWN)];
    box.replaceChildren(
        ...choices.map(([value, text], index) => {
            const checked = value === FIRST || (index === 0 && !motions.includes(FIRST));
            const input = element("input", { type: "radio", name: "motion", value, checked, className: "unseen" });
            return element("label", {}, input, element("span", { textContent: text }));
        }),
    );
}

/**
 * A row for each slider.
 * @param {HTMLFieldSetElement} box @param {Record<string, {low: number, high: number, rest: ?number}>} sliders
 */
export function sliderRows(box, sliders) {
    for (const name of SHOWN.filter((name) => name in sliders)) {
        const { low, high, rest } = sliders[name];
        const value = rest ?? low; // at rest, an opening is the photo's own
        const input = element("input", { type: "range", name: `slider-${name}`, min: low, max: high, step: (high - low) / STEPS, value });
        input.defaultValue = value;
        input.dataset.rest = rest === null ? "as is" : "";
        const row = element("label", {}, element("span", { textContent: spelled(name) }), input, element("output"));
        box.append(row);
    }
}

/** Reset all sliders. @param {HTMLFieldSetElement} box */
export function resetSliders(box) {
    for (const input of box.querySelectorAll("input")) {
        input.value = input.defaultValue;
    }
}

/** Show the value of every slider next to it. @param {HTMLFormElement} form */
export function showValues(form) {
    for (const input of form.querySelectorAll("input[type=range]")) {
        const isAtRest = input.value === input.defaultValue;
        input.nextElementSibling.textContent = (isAtRest && input.dataset.rest) || Number(Number(input.value).toFixed(2));
    }
}

/** The form's values. @param {HTMLFormElement} form */
export function optionsOf(form) {
    const { motion, region, multiplier, view, format } = Object.fromEntries(new FormData(form));
    const sliders = {};
    for (const input of form.querySelectorAll("[name^=slider-]")) {
        if (input.value !== input.defaultValue) {
            sliders[input.name.slice("slider-".length)] = Number(input.value);
        }
    }
    return { motion, transfer: { region, multiplier: Number(multiplier) }, view, webm: format === "webm", sliders };
}

function spelled(name) {
    const words = name.replaceAll(/[_-]/g, " ");
    return words[0].toUpperCase() + words.slice(1);
}

function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}
