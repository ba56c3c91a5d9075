// Lesson 11: a scene and its twin without a part, what the network says of both, and the maps of several methods.

import {best, draw, fill, options, overlay, scale, short} from "./pieces.js";

const HTML = `
<p class="controls">
<label>Scene <select data-part="scene"></select></label>
<label>Part taken away <select data-part="part"></select></label>
<label>Network <select data-part="network"></select></label>
<label>Contrast <input type="range" data-part="contrast" min="1" max="8" value="2"></label>
<label><input type="checkbox" data-part="outlined" checked> Outline of the part</label>
</p>
<p class="note" data-part="note" role="status"></p>
<div class="couples" data-part="pairs"></div>
<p class="note">The maps are of the scene’s class, over the picture in pale grey: red above 0, blue below. Both of a
method have one scale; what lies beyond it has its last colour.</p>
<table class="losses"><caption>The effect of each part (what the class’s logit loses without it), and the sum
of each method’s map of the whole picture where the part is; last, the rank correlation of these sums with the
effects.</caption>
<tbody data-part="rows"></tbody></table>`;

const STAGE = `<div><div class="stage"><canvas role="img" aria-label="Nothing is drawn yet"></canvas>
<svg aria-hidden="true"><path/><path/></svg></div><small></small></div>`;
const PAIR = `<p class="note"></p>${STAGE}${STAGE}<p class="scale" hidden></p>`;

// The outline of some pixels: the sides that one of them has and its neighbour has not.
function outline(some, width, height) {
    const inside = (row, column) => row >= 0 && row < height && column >= 0 && column < width;
    const has = (row, column) => inside(row, column) && some[row * width + column];
    let path = "";
    for (let row = 0; row <= height; row++)
        for (let column = 0; column <= width; column++) {
            const here = has(row, column);
            if (here !== has(row - 1, column)) path += `M${column} ${row}h1`;
            if (here !== has(row, column - 1)) path += `M${column} ${row}v1`;
        }
    return path;
}

const spoken = part => part.replace("_", " ");

export function face(root, ask, about) {
    const {scenes, names, networks, methods, classes} = about, parts = fill(root, HTML);
    const state = root.state = {
        whole: null, without: null, part: "", width: 1, height: 1, // a scene and its twin without a part
        label: 0, logits: null, // its class, and the logits of all classes, one picture after the other
        maps: [], // by method, of both, one after the other
        rows: null, // effects of all parts, each method's sums on them, and how both agree
    };
    let questions = 0; // how many there were: an answer to an earlier one is no longer wanted

    async function renew() {
        const number = ++questions;
        const given = {scene: Number(parts.scene.value), part: parts.part.value, network: parts.network.value};
        const [seen, rows, ...found] = await Promise.all([
            ask("twins", given), ask("parts", {scene: given.scene, network: given.network}),
            ...methods.map(method => ask("maps", {...given, method})),
        ]);
        if (number !== questions) return;
        Object.assign(state, seen, {part: given.part, rows, maps: found.map(({maps}) => maps)});
        tell();
        drawPairs();
        drawRows();
    }

    function tell() {
        const {part, label, logits, rows} = state, name = classes[label], count = classes.length;
        const [before, after] = [logits.subarray(0, count), logits.subarray(count)];
        const loss = before[label] - after[label], [first, now] = [best(before), best(after)];
        const answer = first === now ? `stays ${classes[now]}` : `was ${classes[first]}, now it is ${classes[now]}`;
        parts.note.textContent = Number.isNaN(rows.effects[names.indexOf(part)])
            ? `Of this ${name} no ${spoken(part)} can be seen.`
            : `Without its ${spoken(part)} the logit of ${name} ${loss < 0 ? "rises" : "falls"} from `
                + `${short(before[label])} to ${short(after[label])}, by ${short(Math.abs(loss))}. `
                + `The network’s answer ${answer}.`;
    }

    function drawPairs() {
        if (!state.whole) return;
        const {whole, without, width, height, label, maps} = state, area = width * height, both = [whole, without];
        const differ = (_, i) => [0, 1, 2].some(c => whole[4 * i + c] !== without[4 * i + c]);
        const path = parts.outlined.checked ? outline(Array.from({length: area}, differ), width, height) : "";
        const pale = both.map(pixels => pixels.map(shade => 190 + shade / 4));
        const [picture, ...others] = parts.pairs.children;
        show(picture, both, () => `A ${classes[label]}`, path, null);
        others.forEach((pair, m) => {
            const limit = maps[m].reduce((most, value) => Math.max(most, Math.abs(value)), 0) / parts.contrast.value;
            const values = which => maps[m].subarray(which * area, (which + 1) * area);
            const over = pale.map((pixels, which) => overlay(pixels, values(which), limit, 1));
            show(pair, over, which => {
                const map = values(which), most = best(map);
                return `${methods[m]} for ${classes[label]}: largest, ${short(map[most])}, in row `
                    + `${Math.floor(most / width)} and column ${most % width}; least, ${short(Math.min(...map))}; `
                    + `the colours end at ${short(limit)}`;
            }, path, limit);
        });
    }

    // Two pictures, with words for those who do not see them, an outline on both, and the scale of their colours.
    function show(pair, pictures, words, path, limit) {
        const {part, width, height} = state, named = ["whole", `without its ${spoken(part)}`];
        pair.querySelectorAll("canvas").forEach((canvas, which) => {
            const outlined = path ? `; ${spoken(part)} outlined` : "";
            draw(canvas, pictures[which], width, height, `${words(which)}; ${named[which]}${outlined}`);
            canvas.parentElement.nextElementSibling.textContent = named[which];
        });
        for (const svg of pair.querySelectorAll("svg")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        for (const line of pair.querySelectorAll("path")) line.setAttribute("d", path);
        scale(pair.querySelector(".scale"), limit);
    }

    function drawRows() {
        const {part, rows: {effects, sums, agreement}} = state, many = names.length;
        const number = value => {
            if (Number.isNaN(value)) return "–"; // not to be seen in this scene
            return Math.abs(value) < 100 ? short(value) : value.toFixed(0).replace("-", "−");
        };
        const row = (kind, name, cells) => {
            const line = document.createElement("tr");
            line.append(...[name, ...cells].map((text, i) => {
                const cell = document.createElement(i ? kind : "th");
                if (cell.localName === "th") cell.scope = kind === "th" ? "col" : "row";
                cell.textContent = text;
                return cell;
            }));
            return line;
        };
        const lines = names.map((name, p) => {
            const known = methods.map((_, m) => Number.isNaN(effects[p]) ? NaN : sums[m * many + p]);
            const line = row("td", spoken(name), [effects[p], ...known].map(number));
            if (name === part) line.setAttribute("aria-current", "true");
            return line;
        });
        const head = row("th", "part", ["effect", ...methods]);
        const last = row("td", "rank correlation", ["", ...Array.from(agreement, number)]);
        parts.rows.replaceChildren(head, ...lines, last);
    }

    options(parts.scene, scenes.map((name, i) => [i, `${i + 1}: ${name}`]), 0);
    options(parts.part, names.map(part => [part, spoken(part)]), names[0]);
    options(parts.network, networks.map(name => [name, name]), networks[0]);
    for (const name of ["picture", ...methods]) {
        const pair = Object.assign(document.createElement("div"), {className: "couple", innerHTML: PAIR});
        pair.setAttribute("role", "group");
        pair.setAttribute("aria-label", name);
        pair.firstElementChild.textContent = name;
        parts.pairs.append(pair);
    }
    for (const part of [parts.scene, parts.part, parts.network]) part.addEventListener("change", renew);
    for (const part of [parts.contrast, parts.outlined]) part.addEventListener("input", drawPairs);
    renew();
    return renew;
}
