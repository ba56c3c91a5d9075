// Networks: loaded when the reader lets them, run by ONNX Runtime.

export const about = fetch(new URL("files/lab.json", import.meta.url)).then(answer => answer.json());

export let begin; // to be called when a panel is first touched
const begun = new Promise(resolve => { begin = resolve; });
const sessions = new Map(), loaded = {};
let ort, runtime;

// A file, read with the page's bars in step: they show how much of all that was asked for has come.
export async function read(name) {
    const {bytes} = await about;
    const answer = await fetch(new URL(`files/${name}`, import.meta.url));
    if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status}).`);
    const whole = new Uint8Array(bytes[name]), reader = answer.body.getReader();
    let at = 0;
    for (let part; !(part = await reader.read()).done; at += part.value.length) {
        whole.set(part.value, at);
        loaded[name] = at + part.value.length;
        postMessage({loaded});
    }
    return whole;
}

async function start() {
    ort = await import("./files/ort.wasm.bundle.min.mjs");
    ort.env.wasm.wasmBinary = (await read("ort-wasm-simd-threaded.wasm")).buffer;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
}

// The network of this name, once the reader has begun.
export async function load(name) {
    await begun;
    if (!sessions.has(name)) {
        const loading = (async () => {
            const {file} = (await about).networks[name];
            await (runtime ??= start());
            return ort.InferenceSession.create(await read(file));
        })();
        sessions.set(name, loading);
        loading.catch(() => { sessions.delete(name); runtime = undefined; }); // the next question tries again
    }
    return sessions.get(name);
}

// A network's outputs by name for a batch of pictures, one picture's planes after the other's.
export async function run(name, planes, count) {
    const session = await load(name), {size} = (await about).networks[name];
    return session.run({pictures: new ort.Tensor("float32", planes, [count, 3, size, size])});
}
