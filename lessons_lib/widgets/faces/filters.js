// Lesson 02: all filters of a layer at any age of its network, and one of them large, with its weights as numbers.

import {colour, coloured, draw, fill, mosaic, numbered, options, RED_BLUE, say, scale, short, steps} from "./pieces.js";

const GREY = [[0, 0, 0], [255, 255, 255]];
const RGB = ["red", "green", "blue"];

const HTML = `
<div class="controls">
<label>Layer <select data-part="layer"></select></label>
<span><label>Age <input type="range" data-part="age" min="0" step="1"></label> <span class="step"></span></span>
</div>
<div class="tiles">
<div>
<div class="stage mosaic" data-part="mosaic"></div>
<div class="scale" data-part="scale" hidden></div>
<p class="note" data-part="note" role="status"></p>
</div>
<div>
<p><label>Filter <input type="number" data-part="filter" min="0" step="1" value="0"></label></p>
<p class="where" data-part="where"></p><p class="heard" data-part="said" role="status"></p>
<div class="stage"><canvas class="exact" data-part="large" role="img"></canvas></div>
<div data-part="planes" hidden>
<div class="stage mosaic" data-part="inputs"></div>
<p class="note" data-part="some"></p>
<p><label>Input channel <select data-part="input"></select></label></p>
</div>
</div>
</div>
<div class="numbers" data-part="numbers"></div>`;

export function face(root, ask, about) {
    const {layers} = about, parts = fill(root, HTML);
    const state = root.state = {
        layer: 0, age: layers[0].ages.length - 1, filter: 0, input: 0, // input: which of those that are told
        weights: null, channels: null, autocorrelation: null, shape: null, // of all filters
    };
    let questions = 0, tiles = null, peak = 0; // an answer to an earlier question is no longer wanted
    const show = mosaic(parts.mosaic, "Filter", choose), showInputs = mosaic(parts.inputs, "Input channel", input => {
        state.input = input;
        drawFilter();
    });

    async function change() {
        const number = ++questions, layer = Number(parts.layer.value), {ages} = layers[layer];
        const same = String(ages) === String(layers[state.layer].ages); // another network begins with its last age
        const age = same ? Number(parts.age.value) : ages.length - 1;
        steps(parts.age, ages, age);
        parts.age.disabled = ages.length === 1;
        const answer = await ask("filters", {layer, age});
        if (number !== questions) return;
        const filter = Math.min(state.filter, answer.shape[0] - 1);
        Object.assign(state, answer, {layer, age, filter, input: layer === state.layer ? state.input : 0});
        const {weights, shape: [count, inputs, height, width]} = state, area = height * width;
        peak = weights.reduce((most, weight) => Math.max(most, Math.abs(weight)), 0);
        // in colour, or of many input channels the one of the largest norm
        const first = weights.filter((_, i) => i % (inputs * area) < area);
        tiles = inputs === 3 ? inColour(weights, area, peak) : coloured(first, -peak, peak, RED_BLUE);
        drawAll();
    }

    function choose(filter) {
        if (!state.weights || !(filter >= 0 && filter < state.shape[0])) return;
        Object.assign(state, {filter, input: 0});
        drawAll();
    }

    function drawAll() {
        const {layer, age, filter, shape: [count, inputs, height, width]} = state, {name, ages} = layers[layer];
        const what = inputs === 3 ? "in colour, where grey is a weight of 0"
            : inputs === 1 ? "each of one input channel" : "of each the input channel with the largest norm";
        show({pixels: tiles, count, width, height, chosen: filter,
            words: `${count} filters of ${name}, ${ages[age]}; filter ${filter} is framed`});
        scale(parts.scale, peak, -peak, inputs === 3 ? GREY : RED_BLUE);
        say(parts.note, `${name}, ${ages[age]}: ${count} filters on one scale, ${what}.`);
        drawFilter();
    }

    function drawFilter() {
        const {layer, age, filter, input, weights, channels, autocorrelation} = state;
        const [count, inputs, height, width] = state.shape, area = height * width, first = filter * inputs;
        const {name, ages, inputs: all, noise} = layers[layer];
        const own = weights.subarray(first * area, (first + inputs) * area), most = Math.max(...own.map(Math.abs));
        const named = i => inputs === 3 ? RGB[i] : all === 1 ? "the only one" : `input channel ${channels[first + i]}`;
        Object.assign(parts.filter, {max: count - 1, value: filter});
        const smooth = most ? short(autocorrelation[filter]) : "not defined, for all weights are 0";
        parts.where.textContent = `Filter ${filter}: autocorrelation at lag one ${smooth}; `
            + `of white noise of this size 0 ± ${short(noise)} (standard deviation). `
            + `Largest weight, either sign, ${short(most)}.`;
        say(parts.said, parts.where.textContent);
        parts.planes.hidden = inputs <= 3;
        parts.large.parentNode.hidden = inputs > 3;
        const title = `Filter ${filter} of ${name}, ${ages[age]}`;
        if (inputs > 3) {
            const some = `${inputs < all ? `${inputs} of` : "all"} ${all} input channels, the largest norm first`;
            const pixels = coloured(own, -most, most, RED_BLUE);
            showInputs({pixels, count: inputs, width, height, chosen: input,
                words: `${title}: ${some}; ${named(input)} is framed`});
            options(parts.input, Array.from({length: inputs}, (_, i) => [i, channels[first + i]]), input);
            parts.some.textContent = `Of this filter ${some}.`;
        } else {
            const pixels = inputs === 3 ? inColour(own, area, most) : coloured(own, -most, most, RED_BLUE);
            draw(parts.large, pixels, width, height, title);
        }
        const told = inputs > 3 ? [input] : Array.from({length: inputs}, (_, i) => i);
        const plane = i => own.subarray(i * area, (i + 1) * area);
        parts.numbers.replaceChildren(...told.map(i => table(plane(i), width, most, named(i))));
    }

    options(parts.layer, layers.map(({name}, i) => [i, name]), state.layer);
    steps(parts.age, layers[0].ages, state.age);
    parts.layer.addEventListener("change", change);
    parts.age.addEventListener("input", change);
    numbered(parts.filter, choose, () => state.filter);
    parts.input.addEventListener("change", () => {
        state.input = Number(parts.input.value);
        drawFilter();
    });
    change();
    return change;
}

// Weights on red, green and blue as pixels: 0 is mid-grey, the peak full colour.
function inColour(weights, area, peak) {
    const pixels = new Uint8ClampedArray(4 * weights.length / 3).fill(255);
    weights.forEach((weight, i) => {
        const plane = Math.floor(i / area), [filter, c] = [Math.floor(plane / 3), plane % 3];
        pixels[4 * (filter * area + i % area) + c] = 255 * (peak ? 0.5 + weight / peak / 2 : 0.5);
    });
    return pixels;
}

// Weights as numbers on their colours, in hundredths where that is enough to tell them apart.
function table(weights, width, peak, name) {
    const out = document.createElement("table"), digits = peak >= 0.095 ? 2 : 3;
    out.className = "weights";
    out.createCaption().textContent = `weights, ${name}`;
    weights.forEach((weight, i) => {
        const cell = (i % width ? out.rows[out.rows.length - 1] : out.insertRow()).insertCell();
        const text = weight.toFixed(digits), shade = colour(peak ? 0.5 + weight / peak / 2 : 0.5, RED_BLUE);
        cell.textContent = (Number(text) ? text : text.replace("-", "")).replace("0.", ".").replace("-", "−");
        cell.style.background = `rgb(${shade})`;
        cell.style.color = luminance(shade) > 0.179 ? "#000" : "#fff"; // whichever has the more contrast
    });
    return out;
}

// As WCAG defines it.
function luminance(shade) {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = shade.map(value => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
