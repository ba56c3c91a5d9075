// Which build of ONNX Runtime: for the graphics processor where there is one and WebAssembly can wait for it, else for
// the processor alone. What only imitates a graphics processor (a fallback adapter) is slower than WebAssembly.

async function choose() {
    const adapter = "Suspending" in WebAssembly && await navigator.gpu?.requestAdapter().catch(() => null);
    return adapter && !adapter.info.isFallbackAdapter
        ? {providers: ["webgpu", "wasm"], code: "ort.jspi.bundle.min.mjs", binary: "ort-wasm-simd-threaded.jspi.wasm"}
        : {providers: ["wasm"], code: "ort.wasm.bundle.min.mjs", binary: "ort-wasm-simd-threaded.wasm"};
}

export const runtime = choose(); // a promise: a worker that waits while it is read would miss its first questions
