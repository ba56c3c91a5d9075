// Networks: loaded when the reader lets them, run by ONNX Runtime.

import {runtime} from "./runtime.js";

export const about = fetch(new URL("files/lab.json", import.meta.url)).then(answer => answer.json());

export let begin; // to be called when a panel is first touched
const begun = new Promise(resolve => { begin = resolve; });
const sessions = new Map(), loaded = {};
let ort, started, busy = Promise.resolve();

// A file, read with the page's bars in step: they show how much of all that was asked for has come.
export async function read(name) {
    const {bytes} = await about;
    const answer = await fetch(new URL(`files/${name}`, import.meta.url));
    if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status}). Load the page again.`);
    const whole = new Uint8Array(bytes[name]), reader = answer.body.getReader();
    let at = 0;
    for (let part; !(part = await reader.read()).done; at += part.value.length) {
        whole.set(part.value, at);
        loaded[name] = at + part.value.length;
        postMessage({loaded});
    }
    return whole;
}

// What is to be known of a network: its size, mean, std, classes.
export async function describe(name) {
    return (await about).networks[name];
}

async function start() {
    const {code, binary} = await runtime;
    ort = await import(`./files/${code}`);
    ort.env.wasm.wasmBinary = (await read(binary)).buffer;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
}

// One thing after the other: while a graphics processor works, ONNX Runtime can do nothing else.
const alone = work => busy = busy.then(work, work);

const create = bytes => alone(async () => {
    const {providers: executionProviders} = await runtime;
    return ort.InferenceSession.create(bytes, {executionProviders});
});

// The network of this name, once the reader has begun.
export async function load(name) {
    await begun;
    if (!sessions.has(name)) {
        const loading = (async () => {
            const {file} = await describe(name);
            await (started ??= start());
            return create(await read(file));
        })();
        sessions.set(name, loading);
        loading.catch(() => { sessions.delete(name); started = undefined; }); // the next question tries again
    }
    return sessions.get(name);
}

// A network's outputs by name for a batch of pictures, one picture's planes after the other's.
export async function run(name, planes, count) {
    const session = await load(name), {size} = await describe(name);
    const pictures = new ort.Tensor("float32", planes, [count, 3, size, size]);
    return alone(() => session.run({pictures}));
}

// Put a network of the reader's own, a file that lessons_lib.export.to_onnx wrote, in a network's place; what is to be
// known of it.
export async function replace(name, file) {
    await (started ??= start());
    const bytes = new Uint8Array(await file.arrayBuffer());
    const session = await create(bytes).catch(() => {
        throw new Error("It is no ONNX file, or has layers that ONNX Runtime does not know in a browser.");
    });
    const [input] = session.inputMetadata, logits = session.outputMetadata.find(output => output.name === "logits");
    const [, channels, size, width] = input.shape, told = {};
    if (input.name !== "pictures" || !logits) throw new Error("Write it with lessons_lib.export.to_onnx.");
    if (channels !== 3 || !(size > 0) || width !== size)
        throw new Error("It takes no square pictures of three colours.");
    for (const [key, value] of metadata(bytes)) told[key] = JSON.parse(value);
    if (!told.classes?.length) told.classes = Array.from({length: logits.shape[1]}, (_, k) => `class ${k}`);
    (await about).networks[name] = {...told, size, own: true};
    sessions.set(name, Promise.resolve(session));
    return (await about).networks[name];
}

// The metadata of an ONNX file, which is a protocol buffer: field 14 of the model holds a key and a value each.
function* metadata(bytes) {
    for (const [field, entry] of fields(bytes)) {
        if (field !== 14) continue;
        const words = new Map(fields(entry)), text = part => new TextDecoder().decode(words.get(part));
        yield [text(1), text(2)];
    }
}

// The fields of a protocol buffer that are bytes, by number.
function* fields(bytes) {
    let at = 0;
    const number = () => {
        let value = 0, power = 1, byte;
        do {
            byte = bytes[at++];
            value += (byte & 127) * power;
            power *= 128;
        } while (byte > 127);
        return value;
    };
    while (at < bytes.length) {
        const tag = number(), kind = tag % 8;
        if (kind === 0) number();
        else if (kind !== 2) at += kind === 1 ? 8 : 4;
        else {
            const length = number();
            yield [Math.floor(tag / 8), bytes.subarray(at, at += length)];
        }
    }
}
