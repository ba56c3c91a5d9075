// The panels' home on the website: a page names panels (data-panel) and this puts their faces there, a chooser of
// pictures before the first that is about one. worker.js answers their questions.

import {take} from "./camera.js";
import {runtime} from "./runtime.js";

const FIRST = "eagle";

const files = name => new URL(`files/${name}`, import.meta.url);
const about = await (await fetch(files("lab.json"))).json(), {providers, code, binary} = await runtime;
const roots = [...document.querySelectorAll("[data-panel]")], renewals = new Map();
const panels = roots.map(root => {
    const panel = about.panels[root.dataset.panel];
    return {...about.networks[panel.network], ...panel};
});

// What tests and the curious find at the console: what computes, whether the page would work without a connection, and
// how long each question took to answer the last time.
const lab = window.lab = {title: "", providers, kept: false, milliseconds: {}};

// --- questions to worker.js ---

const worker = new Worker(new URL("worker.js", import.meta.url), {type: "module"});
const waiting = new Map();
let questions = 0;

function ask(panel, question, given) {
    const id = ++questions, began = performance.now();
    worker.postMessage({id, panel, question, given});
    const answer = new Promise((resolve, reject) => waiting.set(id, {resolve, reject}));
    const told = document.getElementById(`${panel}-message`);
    answer.then(() => {
        lab.milliseconds[question] = performance.now() - began;
        if (told) told.textContent = "";
    }, error => { if (told) told.textContent = error.message; });
    return answer;
}

// a panel's errors stand under it
addEventListener("unhandledrejection", event => { if (event.reason.answered) event.preventDefault(); });

worker.onmessage = ({data: {id, answer, error, loaded}}) => {
    if (loaded) return progress(loaded);
    const {resolve, reject} = waiting.get(id);
    waiting.delete(id);
    if (error) reject(Object.assign(new Error(error), {answered: true}));
    else resolve(answer);
};

// --- networks, which load when a panel is first touched ---

const starts = [];
let begun = false;

const neededBy = ({network, files = []}) => network ? [binary, ...files] : files;

function begin() {
    if (begun) return;
    begun = true;
    worker.postMessage({question: "begin"});
    if (!starts.length) keep();
    for (const {button, bar} of starts) {
        Object.assign(button, {textContent: "Loading …", disabled: true});
        bar.hidden = false;
    }
}

function start(root, needed) {
    const bytes = needed.reduce((sum, name) => sum + about.bytes[name], 0);
    const line = document.createElement("p");
    line.innerHTML = "<button type=button class='md-button md-button--primary'></button> "
        + "<progress max=1 value=0 hidden></progress>";
    const [button, bar] = line.children;
    line.className = "start";
    button.textContent = `Ask the network (${Math.ceil(bytes / 1e6)} MB)`;
    bar.setAttribute("aria-label", "Loading the network");
    button.addEventListener("click", begin);
    root.before(line);
    starts.push({line, button, bar, needed, bytes});
}

function progress(loaded) {
    for (const {line, bar, needed, bytes} of starts) {
        bar.value = needed.reduce((sum, name) => sum + (loaded[name] ?? 0), 0) / bytes;
        if (bar.value === 1) line.hidden = true;
    }
    if (starts.some(({line}) => line.hidden)) keep();
}

// For a visit without a connection: what was loaded is kept.
let keeping = false;

async function keep() {
    if (keeping || !navigator.serviceWorker) return; // not everywhere may a page do this
    keeping = true;
    await navigator.serviceWorker.register(new URL("../offline.js", import.meta.url));
    const needed = ["lab.json", code, ...panels.flatMap(neededBy)].map(files);
    const own = about.modules.map(name => new URL(name, import.meta.url));
    const seen = performance.getEntriesByType("resource").map(entry => entry.name);
    const all = [location.href.split("#")[0], ...own.map(String), ...needed.map(String), ...seen];
    await (await caches.open("lab")).addAll([...new Set(all.filter(url => url.startsWith(location.origin)))]);
    lab.kept = true;
}

// --- the picture ---

const CHOOSER = `
<p>Choose a picture, open a file of your own, drop one here, or paste one. It stays on your machine; the networks see
its middle square.</p>
<fieldset class="photos"><legend>Pictures</legend></fieldset>
<p><label class="md-button file">Open a picture<input type="file" accept="image/*"></label>
<label class="md-button file camera">Take one<input type="file" accept="image/*" capture="environment"></label>
<button type="button" class="md-button at-a-desk">Take one</button></p>
<p class="told"></p><p class="message" role="status"></p>`;

const chooser = document.createElement("div");
let pictures = 0; // how many were opened: an earlier one is no longer wanted

async function open(file, title, more = "") {
    const number = ++pictures, message = chooser.querySelector(".message");
    try {
        const {width, height} = await ask("", "open", {file, named: title});
        if (number !== pictures) return;
        lab.title = title;
        message.textContent = "";
        chooser.querySelector(".told").textContent = `${title}, ${width} × ${height} pixels. ${more}`;
        renewals.forEach(renew => renew());
    } catch (error) {
        if (number === pictures) message.textContent = `${title} is no picture that this browser can read.`;
    }
}

async function photograph({name, title, more}) {
    const answer = await fetch(files(`pictures/${name}.jpg`));
    await open(await answer.blob(), title, more);
}

function own(file) {
    if (!file) return;
    chooser.querySelectorAll("[name=photo]").forEach(input => { input.checked = false; });
    begin();
    open(file, file.name || "Your picture");
}

function choose(before) {
    chooser.className = "chooser";
    chooser.innerHTML = CHOOSER;
    before.before(chooser);
    for (const photo of about.pictures) {
        const choice = document.createElement("label");
        choice.innerHTML = "<input type=radio name=photo><img width=72 height=72 loading=lazy>";
        const [input, image] = choice.children;
        Object.assign(image, {src: files(`pictures/${photo.name}_small.jpg`), alt: photo.title, title: photo.title});
        Object.assign(input, {value: photo.name, checked: photo.name === FIRST});
        input.addEventListener("change", () => { begin(); photograph(photo); });
        chooser.querySelector(".photos").append(choice);
    }
    for (const input of chooser.querySelectorAll("[type=file]"))
        input.addEventListener("change", event => own(event.target.files[0]));
    const desk = chooser.querySelector(".at-a-desk");
    desk.hidden = !navigator.mediaDevices;
    desk.addEventListener("click", async () => {
        try {
            own(await take(chooser));
        } catch (error) {
            chooser.querySelector(".message").textContent = error.message;
        }
    });
    document.addEventListener("paste", event => own(event.clipboardData.files[0]));
    document.addEventListener("dragover", event => event.preventDefault());
    document.addEventListener("drop", event => {
        event.preventDefault();
        own(event.dataTransfer.files[0]);
    });
    return photograph(about.pictures.find(photo => photo.name === FIRST));
}

// --- all together ---

// A panel begins when it comes near the window: a page is there at once, whatever its panels need.
const near = root => new Promise(resolve => {
    const observer = new IntersectionObserver(entries => {
        if (entries.some(entry => entry.isIntersecting)) resolve(observer.disconnect());
    }, {rootMargin: "500px"});
    observer.observe(root);
});

const first = panels.findIndex(panel => panel.of_picture);
const chosen = first >= 0 && near(roots[first]).then(() => choose(roots[first]));

async function show(root, panel) {
    const name = root.dataset.panel, {face} = await import(`./faces/${name}.js`);
    const renew = face(root, (question, given) => ask(name, question, given), panel);
    if (panel.of_picture) renewals.set(root, renew);
}

roots.forEach(async (root, i) => {
    const message = document.createElement("p");
    Object.assign(message, {id: `${root.dataset.panel}-message`, role: "alert"});
    root.after(message);
    if (panels[i].network) start(root, neededBy(panels[i]));
    for (const touch of ["pointerdown", "keydown", "change"]) root.addEventListener(touch, begin);
    await Promise.all([panels[i].of_picture && chosen, near(root)]);
    await show(root, panels[i]);
});
for (const needs of document.querySelectorAll(".needs")) needs.hidden = true;

// --- the reader's own network ---

const network = document.querySelector(".network");
network?.querySelector("input").addEventListener("change", async event => {
    const [file] = event.target.files, message = network.querySelector("[role=status]"), replaced = "classifier";
    if (!file) return;
    message.textContent = "Loading …";
    try {
        const told = await ask("", "replace", {name: replaced, file});
        const {classes, size} = told;
        message.textContent = `${file.name}: ${classes.length} classes, pictures of ${size} × ${size} pixels.`;
        begin();
        for (const {line} of starts) line.hidden = true;
        roots.forEach((root, i) => {
            if (panels[i].network === replaced && root.state) show(root, Object.assign(panels[i], told));
        });
    } catch (error) {
        message.textContent = `${file.name} cannot be used: ${error.message}`;
    }
});
