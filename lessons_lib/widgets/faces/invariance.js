// Lesson 10: a picture moved, enlarged or turned; how far its features go, and whether the answer stays.

import {draw, fill, latest, options, say, short} from "./pieces.js";

const TOGETHER = 3; // amounts that are asked for at a time
const KINDS = {
    shift: {axis: "shift (pixels down)", every: 24, said: by => `${Math.abs(by)} pixels ${by < 0 ? "up" : "down"}`},
    scale: {axis: "scale (times)", every: 0.2, said: by => `${by} times as large`},
    rotation: {axis: "rotation (degrees)", every: 90, said: by => `turned ${by}° counter-clockwise`},
};
const LINES = [["#2a86d1", ""], ["#d9541e", "9 5"], ["#1d9a63", "1 5"], ["#a465c8", "9 5 1 5"]]; // told by dashes, too
const [WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM] = [320, 200, 34, 12, 10, 40]; // of a chart, and what its axes leave

const HTML = `
<p class="controls">
<label data-part="choice">Picture <select data-part="name"></select></label>
<label>Change <select data-part="kind"></select></label>
<label>Amount <input type="range" data-part="step" min="0"></label>
</p>
<div class="couple">
<div><canvas data-part="before" role="img"></canvas><small>untouched</small></div>
<div><canvas data-part="after" role="img"></canvas><small>changed</small></div>
<p class="note" data-part="where"></p><p class="heard" data-part="said" role="status"></p>
<p class="note" data-part="frame"></p>
</div>
<div class="pair">
<div><p class="note"><b>Distance of the features</b> to the untouched picture’s</p>
<svg class="chart" data-part="distances" role="img"></svg><ul class="lines" data-part="lines"></ul>
<p class="note" data-part="unit"></p></div>
<div><p class="note"><b>Probability</b> of <span data-part="answer"></span></p>
<svg class="chart" data-part="probabilities" role="img"></svg>
<p data-part="all"><button type="button" data-part="sweep"></button>
<progress data-part="swept" max="1" aria-label="Computing the curves"></progress></p></div>
</div>`;

function stroke(path, colour, dashes) {
    return `<path class="line" d="${path}" stroke="${colour}" stroke-dasharray="${dashes}"/>`;
}

// Lines over amounts, as far as their values are known, and a dot on each at one of the amounts.
function chart(svg, {axis, every}, amounts, lines, most, step, words) {
    const first = amounts[0], range = amounts.at(-1) - first || 1;
    const x = amount => LEFT + (WIDE - LEFT - RIGHT) * (amount - first) / range;
    const y = value => HIGH - BOTTOM - (HIGH - BOTTOM - TOP) * value / most;
    const text = (x, y, anchor, words) => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;
    const count = Math.floor(range / every + 1e-9) + 1, start = Math.ceil(first / every - 1e-9);
    const ticks = Array.from({length: count}, (_, i) => Number(((start + i) * every).toFixed(2)));
    const ruled = [0, 0.5, 1].map(value => `<path class="rule" d="M${LEFT} ${y(value)}H${WIDE - RIGHT}"/>`
        + text(LEFT - 6, y(value) + 4, "end", value));
    const marked = ticks.map(value => text(x(value), HIGH - BOTTOM + 16, "middle", `${value}`.replace("-", "−")));
    const drawn = lines.map((values, i) => {
        const path = values.map((value, at) => value === null ? ""
            : `${(values[at - 1] ?? null) === null ? "M" : "L"}${x(amounts[at])} ${y(value)}h0`).join("");
        const [colour, dashes] = LINES[i % LINES.length], here = values[step];
        const dot = () => `<circle cx="${x(amounts[step])}" cy="${y(here)}" r="5" fill="${colour}"/>`;
        return stroke(path, colour, dashes) + (here === null ? "" : dot());
    });
    svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
    svg.setAttribute("aria-label", words);
    svg.innerHTML = [...ruled, ...marked, text((LEFT + WIDE - RIGHT) / 2, HIGH - 6, "middle", axis), ...drawn].join("");
}

export function face(root, ask, about) {
    const {amounts, neutral, curves, classes} = about, parts = fill(root, HTML);
    const state = root.state = {
        title: "", before: null, after: null, width: 1, height: 1, // the picture in the frame, as it is and changed
        kind: "", step: 0, answer: null, // the change, and what the network says of the untouched picture
        known: {}, // by kind, at each amount: what was measured, or null
    };
    let pictures = 0, sweeps = 0; // how many there were: an answer about an earlier one is no longer wanted

    async function renew() {
        const number = ++pictures, name = parts.name.value;
        stop();
        for (const kind of Object.keys(amounts)) state.known[kind] = amounts[kind].map(() => null);
        Object.assign(state, {before: null, answer: null});
        const {title, pixels, width, height} = await ask("picture", {name});
        if (number !== pictures) return;
        Object.assign(state, {title, before: pixels, width, height});
        draw(parts.before, pixels, width, height, `${title}, untouched`);
        drawCurves();
        change();
        const {answer} = await ask("clean", {name});
        if (number !== pictures) return;
        state.answer = answer;
        measure();
    }

    const change = latest(async () => {
        const number = pictures, {kind, step, title, width, height} = state;
        const {pixels} = await ask("view", {name: parts.name.value, kind, step});
        if (number !== pictures) return;
        state.after = pixels;
        draw(parts.after, pixels, width, height, `${title}, ${KINDS[kind].said(amounts[kind][step])}`);
    });

    const unknown = () => [...state.known[state.kind].keys()].filter(step => !state.known[state.kind][step]);

    const measure = latest(async () => {
        const {kind, step, known} = state;
        if (state.answer !== null && !known[kind][step]) await learn(about.measured ? unknown() : [step]);
    });

    async function learn(steps) {
        const number = pictures, {kind} = state;
        const {distances, probabilities, answers} = await ask("measure", {name: parts.name.value, kind, steps});
        if (number !== pictures) return;
        steps.forEach((step, i) => {
            const found = distances.subarray(i * curves.length, (i + 1) * curves.length);
            state.known[kind][step] = {distances: found, probability: probabilities[i], k: answers?.[i]};
        });
        drawCurves();
    }

    function stop() {
        sweeps++;
        parts.swept.hidden = true;
        parts.sweep.textContent = "Compute the curves";
    }

    async function sweep() {
        stop();
        const number = sweeps, whole = unknown().length;
        [parts.swept.hidden, parts.sweep.textContent] = [false, "Cancel"];
        for (let steps; (steps = unknown()).length;) {
            parts.swept.value = 1 - steps.length / whole;
            await learn(steps.slice(0, TOGETHER));
            if (number !== sweeps) return;
        }
        stop();
    }

    function drawCurves() {
        const {kind, step, known, title, answer} = state, steps = amounts[kind], rows = known[kind], here = rows[step];
        const lines = curves.map((_, curve) => rows.map(row => row && row.distances[curve]));
        const shares = rows.map(row => row && row.probability), said = KINDS[kind].said(steps[step]);
        const names = curves.map((name, curve) => `${name} ${here ? short(here.distances[curve]) : "–"}`);
        const far = `Distances: ${names.join("; ")}`, most = Math.max(1.1, ...lines.flat());
        chart(parts.distances, KINDS[kind], steps, lines, most, step, `${title}, ${said}. ${far}`);
        const now = here?.k === undefined ? "" : ` The answer is ${classes[here.k]}.`;
        const words = `Changed: ${said}. ${here ? `Probability of ${answer}: ${short(here.probability)}.${now}` : ""}`;
        chart(parts.probabilities, KINDS[kind], steps, [shares], 1.1, step, `${title}. ${words}`);
        parts.lines.replaceChildren(...names.map((name, i) => {
            const line = document.createElement("li"), [colour, dashes] = LINES[i % LINES.length];
            line.innerHTML = `<svg viewBox="0 0 40 8" aria-hidden="true">${stroke("M0 4h40", colour, dashes)}</svg> `;
            line.append(name);
            return line;
        }));
        parts.answer.textContent = answer ?? "the network’s answer";
        parts.where.textContent = words;
        say(parts.said, `${words} ${far}`);
        if (document.activeElement === parts.sweep && !unknown().length) parts.step.focus();
        parts.all.hidden = !unknown().length;
    }

    function move() {
        state.step = Number(parts.step.value);
        parts.step.setAttribute("aria-valuetext", KINDS[state.kind].said(amounts[state.kind][state.step]));
        if (!state.before) return;
        drawCurves();
        change();
        measure();
    }

    function choose() {
        stop();
        state.kind = parts.kind.value;
        const far = amounts[state.kind].map(amount => Math.abs(amount - neutral[state.kind]));
        [parts.step.max, parts.step.value] = [far.length - 1, far.indexOf(Math.min(...far))];
        move();
    }

    parts.choice.hidden = !about.pictures;
    options(parts.name, (about.pictures ?? []).map(name => [name, name]), about.pictures?.[0]);
    options(parts.kind, Object.keys(amounts).map(kind => [kind, kind]), Object.keys(amounts)[0]);
    const {frame, photo} = about;
    parts.frame.hidden = !photo;
    parts.frame.textContent = `You see the middle ${frame} × ${frame} of ${photo} × ${photo} pixels, so that what `
        + "comes into the frame is the picture’s own.";
    parts.unit.textContent = `1 is the mean distance between two ${about.photos ?? "pictures"}.`;
    parts.name.addEventListener("change", renew);
    parts.kind.addEventListener("change", choose);
    parts.step.addEventListener("input", move);
    parts.sweep.addEventListener("click", () => { if (parts.swept.hidden) sweep(); else stop(); });
    choose();
    renew();
    return renew;
}
