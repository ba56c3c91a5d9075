// The page: it shows what network.js computes, and asks again when something is chosen, dragged or pressed.

import {RED_BLUE, box, enlarge, overlay} from "./pixels.js";

const STRIDE = 16, TOGETHER = 7; // pixels from patch to patch of a map; how many of them are asked for at a time
const STEP = 8; // pixels an arrow key moves the patch
const FIRST = "eagle", BEST = 5;

const about = await (await fetch(new URL("files/lab.json", import.meta.url))).json();
const {size, classes} = about;
const element = id => document.getElementById(id);
const short = value => {
    const digits = value === 0 ? 0 : Math.abs(value) < 0.0995 ? 3 : Math.abs(value) < 9.95 ? 2 : 1;
    return value.toFixed(digits).replace("-", "−");
};
const FILLED = {black: "black", grey: "grey", blur: "blurred"};
const best = values => values.indexOf(Math.max(...values));

// All that the page knows; tests and the curious find it at the console.
const lab = window.lab = {
    title: "", pixels: null, // the picture
    patch: {row: size / 2, column: size / 2, side: 32, kind: "black"},
    fill: null, // what patches show of it, as pixels
    clean: null, covered: null, // the probabilities without the patch and with it
    k: 0, evidence: null, // the class of the maps, and its evidence
    swept: null, // the probabilities for each place of a patch
    kept: false, // whether the page would work without a connection
    milliseconds: {}, // how long each job took the last time
};

// --- questions to network.js ---

const worker = new Worker(new URL("network.js", import.meta.url), {type: "module"});
const waiting = new Map();
let questions = 0;

function ask(job, given = {}) {
    const id = ++questions, began = performance.now();
    worker.postMessage({id, job, given});
    return new Promise((resolve, reject) => waiting.set(id, {resolve, reject})).finally(() => {
        waiting.delete(id);
        lab.milliseconds[job] = performance.now() - began;
    });
}

worker.onmessage = ({data: {id, answer, error, loaded}}) => {
    if (loaded !== undefined) element("loading").value = loaded;
    else if (error) waiting.get(id).reject(new Error(error));
    else waiting.get(id).resolve(answer);
};

let network; // a promise, from when a panel was first touched

function load() {
    network ??= (async () => {
        element("start").textContent = "Loading the network …";
        element("loading").hidden = false;
        try {
            await ask("load");
        } catch (error) {
            element("start").textContent = `The network could not be loaded: ${error.message} Load the page again.`;
            throw error;
        } finally {
            element("loading").hidden = true;
        }
        element("start").hidden = true;
        if (lab.pixels) await answer();
        keep();
    })();
    network.catch(error => console.error(error));
}

// For a visit without a connection: what was loaded is kept, but for what only offline.js itself can see.
async function keep() {
    if (!navigator.serviceWorker) return; // not everywhere may a page do this
    await navigator.serviceWorker.register(new URL("offline.js", import.meta.url));
    const files = ["ort.wasm.bundle.min.mjs", ...Object.keys(about.bytes)].map(name => `files/${name}`);
    const own = ["network.js", "pixels.js", ...files].map(name => new URL(name, import.meta.url).href);
    const seen = performance.getEntriesByType("resource").map(entry => entry.name);
    const all = new Set([location.href.split("#")[0], ...own, ...seen.filter(url => url.startsWith(location.origin))]);
    await (await caches.open("lab")).addAll([...all]);
    lab.kept = true;
}

// --- the picture and the answers ---

let pictures = 0; // how many were opened: an answer about an earlier one is no longer wanted

async function open(file, title, more = "") {
    const number = ++pictures;
    stop();
    try {
        const {pixels, width, height} = await ask("open", {file, told: about});
        if (number !== pictures) return;
        Object.assign(lab, {title, pixels, clean: null, covered: null, evidence: null, swept: null});
        say("message", "");
        element("told").textContent = `${title}, ${width} × ${height} pixels. ${more}`;
        await refill();
        drawMaps();
        if (element("start").hidden) await answer();
    } catch (error) {
        if (number === pictures) say("message", `${title} is no picture that this browser can read.`);
    }
}

async function answer() {
    const number = pictures, clean = await ask("clean");
    if (number !== pictures) return;
    Object.assign(lab, {clean, covered: clean});
    list();
    await Promise.all([choose(best(clean)), move()]);
}

// Show the patch where it is now and ask what that does; of the places passed while an answer is awaited, the last.
let moving = null, moved = false;

function move() {
    drawPatch();
    moved = true;
    return moving ??= (async () => {
        while (moved && lab.clean) {
            moved = false;
            const {row, column, side, kind} = lab.patch;
            const [covered] = await ask("patches", {places: [{row, column}], side, kind});
            if (!lab.clean) break;
            lab.covered = covered;
            drawAnswers();
        }
    })().finally(() => { moving = null; });
}

async function refill() {
    const {kind, side} = lab.patch;
    lab.fill = await ask("fill", {kind, side});
    drawPatch();
}

function put(row, column) {
    [lab.patch.row, lab.patch.column] = [row, column].map(at => Math.min(size - 1, Math.max(0, Math.round(at))));
    load();
    move();
}

// --- the maps ---

async function choose(k) {
    const found = await ask("evidence", {k});
    if (!lab.clean) return;
    Object.assign(lab, {k, evidence: found});
    element("class").value = k;
    drawMaps();
}

let sweeps = 0; // how many were begun or stopped

function stop() {
    sweeps++;
    element("swept").hidden = true;
    element("sweep").textContent = "Cover every part";
}

async function sweep() {
    stop();
    const number = sweeps, began = performance.now(), {side, kind} = lab.patch, probabilities = [];
    const centres = Array.from({length: Math.ceil(size / STRIDE)}, (_, i) => i * STRIDE);
    const places = centres.flatMap(row => centres.map(column => ({row, column})));
    [element("swept").hidden, element("swept").value] = [false, 0];
    element("sweep").textContent = "Cancel";
    while (probabilities.length < places.length) {
        const some = places.slice(probabilities.length, probabilities.length + TOGETHER);
        probabilities.push(...await ask("patches", {places: some, side, kind}));
        if (number !== sweeps) return;
        element("swept").value = probabilities.length / places.length;
    }
    stop();
    lab.swept = {probabilities, side, kind, rows: centres.length, milliseconds: performance.now() - began};
    drawMaps();
}

// --- drawing ---

function draw(id, pixels, words) {
    const canvas = element(id);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    canvas.getContext("2d").putImageData(new ImageData(pixels, size), 0, 0);
    canvas.setAttribute("aria-label", words);
    return canvas.getContext("2d");
}

function drawPatch() {
    const {row, column, side, kind} = lab.patch, [top, bottom, left, right] = box(lab.patch, size);
    const place = `centred on row ${row}, column ${column}`;
    const words = `${lab.title}, with a patch of ${side} by ${side} pixels, ${FILLED[kind]}, ${place}`;
    const context = draw("picture", lab.pixels, words);
    context.putImageData(new ImageData(lab.fill, size), 0, 0, left, top, right - left, bottom - top);
    const part = pixels => `${100 * pixels / size}%`;
    Object.assign(element("patch").style, {
        top: part(top), left: part(left), width: part(right - left), height: part(bottom - top),
    });
    element("patch").setAttribute("aria-label", `Patch on row ${row}, column ${column}; arrow keys move it`);
}

function drawAnswers() {
    const order = [...lab.clean.keys()].sort((a, b) => lab.clean[b] - lab.clean[a]).slice(0, BEST);
    element("answers").replaceChildren(...order.map(k => {
        const item = document.createElement("li");
        item.innerHTML = "<span class=name></span> <span class=number></span><span class=bar><i></i><b></b></span>";
        item.querySelector(".name").textContent = classes[k];
        item.querySelector(".number").textContent = short(lab.covered[k]);
        item.querySelector("i").style.width = `${100 * lab.covered[k]}%`;
        item.querySelector("b").style.left = `${100 * lab.clean[k]}%`;
        return item;
    }));
    const [first, now] = [best(lab.clean), best(lab.covered)], {row, column} = lab.patch;
    const words = `Patch on row ${row}, column ${column}: ${classes[first]} ${short(lab.covered[first])}, without it `
        + `${short(lab.clean[first])}. `
        + (now === first ? "The answer stays." : `The answer is now ${classes[now]}, ${short(lab.covered[now])}.`);
    element("where").textContent = words;
    say("said", words);
}

// For those who listen: only what stays a moment.
const timers = {};

function say(id, words) {
    clearTimeout(timers[id]);
    timers[id] = setTimeout(() => { element(id).textContent = words; }, 300);
}

function drawMaps() {
    const name = classes[lab.k], {evidence, swept, clean, k} = lab;
    const losses = swept && swept.probabilities.map(covered => clean[k] - covered[k]);
    drawMap("occlusion", losses, swept?.rows, pixel => pixel / STRIDE, () => {
        const others = swept.probabilities.filter(covered => best(covered) !== best(clean)).length;
        return [
            `What ${name} loses from ${short(clean[k])}`,
            `Patch of ${swept.side} × ${swept.side} pixels, ${FILLED[swept.kind]}; at ${others} of ${losses.length} `
            + `places the answer is not ${classes[best(clean)]}. ${(swept.milliseconds / 1000).toFixed(1)} s.`,
        ];
    });
    const values = evidence && [...evidence.evidence];
    const mean = values && values.reduce((a, b) => a + b) / values.length;
    drawMap("evidence", values, evidence?.side, pixel => (pixel + 0.5) * evidence.side / size - 0.5, () => [
        `Evidence for ${name}`,
        `${evidence.side} × ${evidence.side} places; their mean, ${short(mean)}, is the logit of ${name}.`,
    ]);
}

function drawMap(id, values, side, where, words) {
    const scale = element(id).closest("figure").querySelector(".scale");
    scale.hidden = !values;
    if (!values) {
        draw(id, lab.pixels, `${lab.title}, without a map`);
        element(`${id}-note`).textContent = id === "evidence" ? "The map comes with the network’s answers." : "";
        return;
    }
    const limit = Math.max(...values.map(Math.abs)), most = best(values), [title, note] = words();
    const at = i => `row ${Math.floor(i / side) + 1} and column ${i % side + 1} of ${side}`;
    draw(id, overlay(lab.pixels, enlarge(values, side, size, where), limit), `${title}, over ${lab.title}: largest, `
        + `${short(values[most])}, in ${at(most)}; least, ${short(Math.min(...values))}`);
    scale.style.setProperty("--colours", RED_BLUE.map(colour => `rgb(${colour})`).join());
    scale.replaceChildren(...[-limit, 0, limit].map(value => {
        return Object.assign(document.createElement("span"), {textContent: short(value)});
    }));
    element(`${id}-note`).textContent = `${title}. ${note}`;
}

// The classes whose names hold what was typed, the most probable first.
function list() {
    const wanted = element("find").value.trim().toLowerCase();
    const found = [...classes.keys()].filter(k => classes[k].toLowerCase().includes(wanted));
    if (lab.clean) found.sort((a, b) => lab.clean[b] - lab.clean[a]);
    const named = k => new Option(classes[k] + (lab.clean ? `: ${short(lab.clean[k])}` : ""), k);
    element("class").replaceChildren(...found.map(named));
    element("class").value = lab.k;
}

// --- what a reader does ---

function photographs() {
    for (const {name, title, label, credit} of about.photos) {
        const choice = document.createElement("label");
        choice.innerHTML = "<input type=radio name=photo><img width=72 height=72 loading=lazy>";
        const [input, image] = choice.children;
        Object.assign(image, {src: new URL(`files/photos/${name}_small.jpg`, import.meta.url), alt: title, title});
        const show = async () => {
            const answer = await fetch(new URL(`files/photos/${name}.jpg`, import.meta.url));
            await open(await answer.blob(), title, `ImageNet’s label: ${classes[label]}. Credit: ${credit}.`);
        };
        input.value = name;
        input.addEventListener("change", () => { load(); show(); });
        document.querySelector(".photos").append(choice);
        if (name === FIRST) {
            input.checked = true;
            show();
        }
    }
}

function own(file) {
    if (!file) return;
    document.querySelectorAll("[name=photo]").forEach(input => { input.checked = false; });
    load();
    open(file, file.name || "Your picture");
}

function listen() {
    const stage = element("picture").parentElement, patch = element("patch");
    const place = event => {
        const {left, top, width} = stage.getBoundingClientRect();
        return [event.clientY - top, event.clientX - left].map(length => length / width * size);
    };
    let held = null; // from the pointer to the patch's centre, while it is dragged
    stage.addEventListener("pointerdown", event => {
        if (event.target !== patch && event.pointerType !== "mouse") return; // a finger there scrolls the page
        const [row, column] = place(event);
        held = event.target === patch ? [lab.patch.row - row, lab.patch.column - column] : [0, 0];
        stage.setPointerCapture(event.pointerId);
        put(row + held[0], column + held[1]);
    });
    stage.addEventListener("pointermove", event => {
        if (!held) return;
        const [row, column] = place(event);
        put(row + held[0], column + held[1]);
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { held = null; });
    element("picture").addEventListener("click", event => put(...place(event)));
    patch.addEventListener("keydown", event => {
        const way = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
        if (!way) return;
        event.preventDefault();
        const step = event.shiftKey ? 1 : STEP;
        put(lab.patch.row + step * way[0], lab.patch.column + step * way[1]);
    });
    for (const id of ["side", "kind"])
        element(id).addEventListener("change", async () => {
            Object.assign(lab.patch, {side: Number(element("side").value), kind: element("kind").value});
            load();
            await refill();
            move();
        });
    element("start").querySelector("button").addEventListener("click", load);
    element("find").addEventListener("input", list);
    element("class").addEventListener("change", event => { load(); choose(Number(event.target.value)); });
    element("sweep").addEventListener("click", async () => {
        if (!element("swept").hidden) return stop();
        load();
        await network;
        await sweep();
    });
    document.querySelector(".file input").addEventListener("change", event => own(event.target.files[0]));
    document.addEventListener("paste", event => own(event.clipboardData.files[0]));
    document.addEventListener("dragover", event => event.preventDefault());
    document.addEventListener("drop", event => {
        event.preventDefault();
        own(event.dataTransfer.files[0]);
    });
}

const megabytes = Object.values(about.bytes).reduce((a, b) => a + b) / 1e6;
element("start").querySelector("button").textContent += ` (${megabytes.toFixed(0)} MB)`;
list();
listen();
photographs();
element("needs").hidden = true;
element("lab").hidden = false;
